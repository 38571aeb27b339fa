"""What the doctor says of what the probe found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from launcher.pools import doctor
from launcher.pools.doctor import examine_registry
from launcher.pools.option_findings import gpus_finding, network_finding, prepull_finding, source_finding
from launcher.pools.probe import Attempt, Sight, Slot
from launcher.pools.site_pool import BatchPool
from launcher.pools.surroundings import surroundings
from launcher.site_config import Pool
from registry_sync.client import RegistryClient
from registry_sync.layout import LayoutStore


def pool(**more: Any) -> BatchPool:
    settings = {"kind": "htcondor", "collector": "c:9618", "schedd": "s@d", "trust_domain": "d", "signing_key": "/none"}
    return BatchPool(Pool.model_validate({**settings, **more}), "alice", 600)


APPTAINER = Slot("a", 4, docker=False, container=True)
BOTH = Slot("a", 4, docker=True, container=True)
GOOD = Attempt("end", "alice@d", owner="alice@d")


@pytest.mark.parametrize(
    ("attempt", "state", "words"),
    [
        (GOOD, "ok", "queues jobs of alice@d as theirs, and lets them do no more"),
        (None, "skipped", "not tried"),
        (Attempt("collector", error="x"), "failed", "the collector refuses the token of alice@d: `pool.signing_key`"),
        (Attempt("schedd", error="x"), "failed", "the schedd refuses the token of alice@d: `pool.signing_key`"),
        (Attempt("queue", "bob@d", error="x"), "failed", "takes alice@d for bob@d"),
        (Attempt("queue", "alice@d", error="no account"), "failed", "queues no job of alice@d: no account"),
        (Attempt("end", "alice@d", owner="nobody@d"), "failed", "queues jobs of alice@d as nobody@d"),
        (Attempt("end", "alice@d", administrator=True, owner="alice@d"), "failed", "ALLOW_ADMINISTRATOR is too wide"),
    ],
)
def test_write(attempt: Attempt | None, state: str, words: str) -> None:
    finding = doctor._write(pool(), attempt)
    assert finding.state == state
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("slots", "universe", "state", "words"),
    [
        ((), "docker", "failed", "the pool has no slots"),
        ((APPTAINER,), "docker", "failed", "none of 1 slot runs the docker universe"),
        ((APPTAINER,), "container", "ok", "1 of 1 slot run"),
        (
            (Slot("a", 4, True, True), Slot("a", 1, True, False)),
            "docker",
            "ok",
            "2 of 2 slots run the docker universe: 5",
        ),
    ],
)
def test_universe(slots: tuple[Slot, ...], universe: str, state: str, words: str) -> None:
    finding = doctor._universe(pool(universe=universe), Sight(True, True, slots))
    assert finding.state == state
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("collector", "address", "state", "words"),
    [
        ("127.0.0.1:9618", "127.0.0.1", "ok", "schedulers will listen at 127.0.0.1"),
        ("condor.example.org", "127.0.0.1", "failed", "nodes can't reach 127.0.0.1: say in `pool.address`"),
        ("condor.example.org", "192.0.2.7", "failed", "192.0.2.7 is no address of this machine"),
    ],
)
def test_address(collector: str, address: str, state: str, words: str) -> None:
    finding = doctor._address(pool(collector=collector, address=address))
    assert finding.state == state
    assert words in finding.sentence


def test_what_the_probe_prints_is_read_back() -> None:
    sight = Sight(True, True, (Slot("a", 4, docker=True, container=False),))
    assert Sight.from_json(asdict(sight)) == sight


def test_the_token_is_a_file_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS", "FS")
    with surroundings(pool(), "h.p.s") as environment:
        file = Path(environment["_CONDOR_SEC_TOKEN_DIRECTORY"]) / "token"
        assert file.read_text() == "h.p.s\n"
        assert file.stat().st_mode & 0o777 == 0o600
        assert environment["_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS"] == "IDTOKENS"
        assert environment["CONDOR_CONFIG"] == "ONLY_ENV"
        assert not any("h.p.s" in value for value in environment.values())
    assert not file.exists()


def test_images_come_from_a_registry_that_answers(tmp_path: Path) -> None:
    assert "OCI layout" in examine_registry(LayoutStore(tmp_path / "layout")).sentence
    with RegistryClient("127.0.0.1:9", credentials=None) as store:
        assert examine_registry(store).state == "failed"


@pytest.mark.parametrize(
    ("images", "more", "state", "words"),
    [
        ("docker://{name}", {}, "ok", "docker://{name} for the nodes, which fetch and convert it for every job"),
        ("osdf:///x/{image_id}.sif", {}, "ok", "which fetch it for every job"),
        ("ROOT/{name}", {}, "ok", "ROOT is here too, with 1 entry in it"),
        ("ROOT/none/{name}", {}, "ok", "ROOT/none is not on this machine, so a launch can't say if one is missing"),
        ("ROOT/none/{name}", {"images_fallback": "docker"}, "failed", "so nobody can see whether an image is there"),
        ("ROOT/none/{name}", {"images_seconds": 60}, "failed", "mount it here as well"),
    ],
)
def test_source(tmp_path: Path, images: str, more: dict[str, Any], state: str, words: str) -> None:
    (tmp_path / "registry.example.org").mkdir()
    site = pool(universe="container", images=images.replace("ROOT", str(tmp_path)), **more).site
    finding = source_finding(site)
    assert finding.state == state
    assert words.replace("ROOT", str(tmp_path)) in finding.sentence


NEAR = Slot("a", 4, docker=True, container=False, address="127.0.0.2")
FAR = Slot("b", 4, docker=True, container=False, gpus=2, address="192.0.2.5")


@pytest.mark.parametrize(
    ("address", "sight", "state", "words"),
    [
        ("127.0.0.1", Sight(True, True, (FAR,)), "failed", "in a container 127.0.0.1 is not this machine"),
        ("192.0.2.7", Sight(True, True, (FAR, NEAR)), "failed", "1 node of the pool have loopback addresses"),
        ("192.0.2.7", Sight(error="no answer"), "skipped", "not looked at"),
        ("192.0.2.7", Sight(True, True, (FAR,)), "ok", "Docker forwards a port of the node to each worker"),
    ],
)
def test_network(address: str, sight: Sight, state: str, words: str) -> None:
    finding = network_finding(pool(address=address, network="nat").site, sight)
    assert finding.state == state
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("gpus", "slots", "state", "words"),
    [
        (1, (NEAR,), "failed", "workers may ask for 1 GPU, but of 1 slot none has any: correct `pool.gpus`"),
        (4, (NEAR, FAR), "failed", "workers may ask for 4 GPUs, but of 2 slots none has more than 2"),
        (2, (NEAR, FAR), "ok", "2 GPUs on 1 node; a worker may have up to 2"),
    ],
)
def test_gpus(gpus: int, slots: tuple[Slot, ...], state: str, words: str) -> None:
    finding = gpus_finding(pool(gpus=gpus).site, Sight(True, True, slots))
    assert finding.state == state
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("more", "attempt", "state", "words"),
    [
        ({}, None, "ok", "brought to 2 nodes of 2 as alice"),
        ({"universe": "container"}, None, "failed", "has no effect in the container universe"),
        ({"user": "bob"}, Attempt("end", "bob@d", owner="bob@d"), "ok", "as bob"),
        (
            {"user": "bob"},
            Attempt("queue", "bob@d", error="no account"),
            "failed",
            "bob can't bring images to nodes: no",
        ),
    ],
)
def test_prepull(more: dict[str, Any], attempt: Attempt | None, state: str, words: str) -> None:
    user = {"user": more.pop("user")} if "user" in more else {}
    finding = prepull_finding(pool(prepull={"nodes": 5, **user}, **more), Sight(True, True, (NEAR, FAR)), attempt)
    assert finding.state == state
    assert words in finding.sentence
