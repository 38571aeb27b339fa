"""What the doctor says of what the probe found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from launcher.pools import doctor
from launcher.pools.doctor import examine_registry
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
