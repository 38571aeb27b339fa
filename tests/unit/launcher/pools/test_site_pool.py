"""A site's pool: what a session is told of it, whose token it gets, and the container that workers can reach."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.pools import PoolConfig
from casabinder_runtime.pools.htcondor import HTCondorPool

from launcher.container import LaunchOptions, describe, secrets_archive, server_name
from launcher.pools.image_source import SessionImage
from launcher.pools.site_pool import BatchPool
from launcher.site_config import Pool, Site, load_site
from registry_sync.errors import CasabinderError
from tests.unit.launcher.records import RECORD

if TYPE_CHECKING:
    from pathlib import Path

HTCONDOR = (
    "pool:\n  kind: htcondor\n  collector: condor.example.org\n  schedd: facility@pool\n  trust_domain: pool\n"
    "  signing_key: keys/POOL\n"
)


def site(directory: Path, more: str = "") -> Site:
    """Return a site with a pool whose signing key is there."""
    key = directory / "keys" / "POOL"
    key.parent.mkdir(exist_ok=True)
    key.write_bytes(b"k" * 64)
    key.chmod(0o600)
    (directory / "site.yaml").write_text(HTCONDOR + more)
    return load_site(directory / "site.yaml")


def claims(token: str) -> dict[str, object]:
    part = token.split(".")[1]
    document: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return document


def test_a_session_is_told_everything_but_secrets(tmp_path: Path) -> None:
    more = (
        "  memory: 1.5G\n  accounting_group: 'cms.{user}'\n  requirements: HasCVMFS\n"
        "  directives: {MY.Project: '\"cms\"'}\n"
        "  universe: container\n  address: 192.0.2.7\n"
    )
    document = BatchPool.of_site(site(tmp_path, more), "alice").document("host/x:tag", 2, 20)
    assert document == {
        "kind": "htcondor",
        "workers": 2,
        "maximum": 20,
        "cores": 1,
        "memory": "1536MiB",
        "disk": "4096MiB",
        "image": "docker://host/x:tag",
        "collector": "condor.example.org",
        "schedd": "facility@pool",
        "trust_domain": "pool",
        "universe": "container",
        "network": "host",
        "gpus": 0,
        "cuda_driver": "",
        "address": "192.0.2.7",
        "accounting_group": "cms.alice",
        "requirements": "HasCVMFS",
        "keep_claim_seconds": 600,
        "idle_seconds": 1800,
        "directives": {"MY.Project": '"cms"'},
    }
    parsed = PoolConfig.parse(json.dumps(document))
    assert (parsed.kind, parsed.workers, parsed.maximum) == ("htcondor", 2, 20)


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ("", 86_400),
        ("  token_seconds: 3600\n", 3600),
        ("service: {launches: {longest_seconds: 7200}}\n", 7200),
        ("  token_seconds: 600\nservice: {launches: {longest_seconds: 0}}\n", 600),
    ],
)
def test_a_token_ends_with_the_longest_session(tmp_path: Path, more: str, seconds: int) -> None:
    token = claims(BatchPool.of_site(site(tmp_path, more), "alice").token(lambda: 1000.0))
    assert (token["iat"], token["exp"], token["sub"]) == (1000, 1000 + seconds, "alice@pool")


def test_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "carol")
    assert BatchPool.of_site(site(tmp_path)).identity == "carol@pool"
    assert BatchPool.of_site(site(tmp_path, "  user: bob\n")).identity == "bob@pool"
    assert BatchPool.of_site(site(tmp_path, "  user: bob\n"), "alice").identity == "alice@pool"


def test_the_image_as_each_universe_names_it(tmp_path: Path) -> None:
    container = "  universe: container\n"
    for more, name in (
        ("", "host/x:tag"),
        (container, "docker://host/x:tag"),
        (container + "  images: '/cvmfs/unpacked.cern.ch/{name}'\n", "/cvmfs/unpacked.cern.ch/host/x:tag"),
        (container + "  images: '/shared/{image_id}.sif'\n", "/shared/tag.sif"),
    ):
        assert BatchPool.of_site(site(tmp_path, more), "alice").document("host/x:tag", 1, 1)["image"] == name


def test_an_image_that_is_not_where_nodes_look_for_it_comes_from_the_registry(tmp_path: Path) -> None:
    (tmp_path / "sif").mkdir()
    more = f"  universe: container\n  network: nat\n  images: '{tmp_path}/sif/{{image_id}}.sif'\n"
    pool = BatchPool.of_site(site(tmp_path, more + "  images_fallback: docker\n"), "alice")
    said: list[str] = []
    here = pool.for_image(SessionImage("host/x:tag", "e"), said.append)
    document = here.document("host/x:tag", 1, 1)
    assert (document["universe"], document["image"], document["network"]) == ("docker", "host/x:tag", "nat")
    assert said == [f"{tmp_path}/sif/tag.sif is not there, so workers are started with Docker from the registry"]
    (tmp_path / "sif" / "tag.sif").touch()
    later = pool.for_image(SessionImage("host/x:tag", "e"), said.append)
    document = later.document("host/x:tag", 1, 1)
    assert (document["universe"], document["network"]) == ("container", "host")
    assert len({server_name(RECORD, LaunchOptions(batch=one), "owner") for one in (here, later)}) == 1


def test_gpus_of_the_launch_and_of_the_image(tmp_path: Path) -> None:
    pool = BatchPool.of_site(site(tmp_path, "  gpus: 2\n"), "alice")
    document = pool.with_gpus(None, {"org.casabinder.cuda": "12.6"}).document("host/x:tag", 1, 1)
    assert (document["gpus"], document["cuda_driver"]) == (1, "12.6")


def test_a_site_without_a_pool_says_so() -> None:
    with pytest.raises(CasabinderError, match=r"this site has no HTCondor pool: describe it under `pool`"):
        BatchPool.of_site(Site())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("pool: {kind: htcondor, schedd: x}", "needs collector, trust_domain, signing_key"),
        ("pool: {kind: slurm}", r"pool.kind"),
        ('pool: {requirements: "true\\nqueue 9"}', r"pool.requirements"),
        ("pool: {schedd: 'a b'}", r"pool.schedd"),
        ("pool: {token_seconds: 0}", r"pool.token_seconds"),
        ("pool: {accounting_group: 'cms.{group}'}", r"pool.accounting_group"),
        ("pool: {universe: container, images: 'oras://x/{name}'}", r"can't be oras://"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, entry: str, message: str) -> None:
    (tmp_path / "site.yaml").write_text(entry)
    with pytest.raises(CasabinderError, match=message) as caught:
        load_site(tmp_path / "site.yaml")
    assert "\n" not in str(caught.value)


def test_a_local_pool_needs_nothing() -> None:
    assert Site().pool == Pool(kind="local")


def test_workers_reach_the_session_and_nobody_else_the_server(tmp_path: Path) -> None:
    batch = BatchPool.of_site(site(tmp_path), "alice")
    options = LaunchOptions(workers=2, maximum=20, port=18888, batch=batch)
    container = describe(RECORD, options, "name", "owner")
    arguments = " ".join(container.arguments())
    assert "--network host --add-host host.docker.internal:127.0.0.1" in arguments
    assert "--publish" not in arguments
    server = "--ip=127.0.0.1 --port=18888 --ServerApp.port_retries=0 --no-browser --KernelManager.transport=ipc"
    assert arguments.endswith(f"notebook-server {server}")
    assert container.labels["org.casabinder.port"] == "18888"
    told = json.loads(container.environment["CASABINDER_POOL"])
    assert told == batch.document(RECORD.image, 2, 20)
    assert "@sha256:" not in told["image"]
    assert batch.token().split(".")[2] not in container.environment_file().decode() + arguments


def test_a_port_is_published_for_the_scheduler(tmp_path: Path) -> None:
    batch = BatchPool.of_site(site(tmp_path, "  address: 192.0.2.7\n"), "alice")
    options = LaunchOptions(workers=2, maximum=20, batch=batch)
    container = describe(RECORD, options, "name", "owner", ("192.0.2.7", 30_417))
    arguments = " ".join(container.arguments())
    assert "--publish 127.0.0.1::8888" in arguments
    assert "--publish 192.0.2.7:30417:8786" in arguments
    assert "--network" not in arguments
    assert container.labels["org.casabinder.scheduler-port"] == "30417"
    told = json.loads(container.environment["CASABINDER_POOL"])
    assert told == batch.document(RECORD.image, 2, 20, "tls://192.0.2.7:30417")
    assert HTCondorPool.from_config(PoolConfig.parse(json.dumps(told)), {}).contact == "tls://192.0.2.7:30417"


def test_a_container_has_no_name_of_its_own(tmp_path: Path) -> None:
    more = "  address: 192.0.2.7\n  exposure: sni\n  domain: dask.example.org\n"
    options = LaunchOptions(workers=2, batch=BatchPool.of_site(site(tmp_path, more), "alice"))
    with pytest.raises(CasabinderError, match="sni` is for servers in Kubernetes"):
        describe(RECORD, options, "name", "owner")


def test_without_workers_no_pool_is_asked(tmp_path: Path) -> None:
    options = LaunchOptions(workers=0, port=1, batch=BatchPool.of_site(site(tmp_path), "alice"))
    container = describe(RECORD, options, "name", "owner")
    assert "--publish 127.0.0.1:1:8888" in " ".join(container.arguments())
    environment = container.environment
    assert json.loads(environment["CASABINDER_POOL"]) == {"kind": "local", "workers": 0}


def test_another_user_or_pool_is_another_server(tmp_path: Path) -> None:
    here = site(tmp_path)
    pools = [BatchPool.of_site(here, "alice"), BatchPool.of_site(here, "bob")]
    pools.append(BatchPool.of_site(site(tmp_path, "  universe: container\n"), "alice"))
    names = {server_name(RECORD, LaunchOptions(batch=pool), "owner") for pool in [None, *pools]}
    assert len(names) == 4
    assert server_name(RECORD, LaunchOptions(batch=pools[0]), "owner") in names


def test_the_pools_token_is_readable_by_the_containers_user_alone() -> None:
    with tarfile.open(fileobj=io.BytesIO(secrets_archive("a-token", "h.p.s"))) as archive:
        members = {member.name: (member.isdir(), member.mode, member.uid, member.gid) for member in archive}
        content = archive.extractfile("casabinder/condor/token")
        assert content is not None
        assert content.read() == b"h.p.s\n"
    assert members == {
        "casabinder": (True, 0o700, 1000, 1000),
        "casabinder/token": (False, 0o400, 1000, 1000),
        "casabinder/condor": (True, 0o700, 1000, 1000),
        "casabinder/condor/token": (False, 0o400, 1000, 1000),
    }
