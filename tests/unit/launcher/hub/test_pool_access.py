"""What the hub's servers get of a pool: whose token, which description, and which sites can't give it."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from launcher.hub.docker_spawner import VouchedDockerSpawner
from launcher.hub.pool_access import check_hub_pool, hub_pool, hub_pool_warning
from launcher.site_config import Hub, Launches, Service, Site
from registry_sync.errors import CasabinderError
from tests.unit.launcher.hub.test_vouching import REQUEST
from tests.unit.launcher.records import htcondor_pool

if TYPE_CHECKING:
    from pathlib import Path

SITE = Site(hub=Hub(mode="login"), pool=htcondor_pool(address="192.0.2.7"))


class _User:
    def __init__(self, name: str) -> None:
        self.name = name


def spawner(site: Site, directory: Path, user: str = "ann") -> Any:
    """Return the spawner of a user's server, with a signing key that is there."""
    key = directory / "POOL"
    key.write_bytes(b"k" * 64)
    key.chmod(0o600)
    pool = site.pool.model_copy(update={"signing_key": key})
    made = VouchedDockerSpawner(mode=site.hub.mode, **hub_pool(site.model_copy(update={"pool": pool})))
    made.user = _User(user)
    return made


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def test_where_people_log_in_a_token_is_theirs(tmp_path: Path) -> None:
    site = SITE.model_copy(update={"pool": htcondor_pool(address="192.0.2.7", user="facility")})
    made = spawner(site, tmp_path)
    assert claims(made.pool_token())["sub"] == "ann@pool"


def test_temporary_servers_have_the_facilitys(tmp_path: Path) -> None:
    site = Site(pool=htcondor_pool(address="192.0.2.7", user="facility"))
    assert claims(spawner(site, tmp_path, "agc-1234").pool_token())["sub"] == "facility@pool"


@pytest.mark.parametrize("name", ["root", "condor", "o brien"])
def test_nobody_gets_a_token_of_the_pools_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(CasabinderError, match=r"can't be a user of the HTCondor pool.*ask the people who run this"):
        spawner(SITE, tmp_path, name).pool_token()


def test_a_token_is_renewed_at_half_of_its_life(tmp_path: Path) -> None:
    site = SITE.model_copy(update={"service": Service(launches=Launches(longest_seconds=4000))})
    made = spawner(site, tmp_path)
    assert made.pool_token_is_due  # a hub that has just started does not know
    life = claims(made.pool_token())
    assert life["exp"] - life["iat"] == 4000
    assert not made.pool_token_is_due
    made._renewal = time.time() - 1
    assert made.pool_token_is_due


def test_a_session_is_told_the_pool_and_where_its_workers_reach_it(tmp_path: Path) -> None:
    made = spawner(SITE, tmp_path)
    made._scheduler_port = 30_417
    told = made.workers_pool(replace(REQUEST, workers=2, most_workers=20))
    assert (told["kind"], told["workers"], told["maximum"]) == ("htcondor", 2, 20)
    assert told["contact"] == "tls://192.0.2.7:30417"
    assert told["image"] == REQUEST.tag
    assert str(tmp_path) not in json.dumps(told)
    assert made.words_on_workers(REQUEST) == "with 1 Dask workers in the pool condor.example.org as ann"


def test_the_image_is_where_the_nodes_have_it_and_its_labels_say_whether_it_needs_gpus(tmp_path: Path) -> None:
    images = f"{tmp_path}/{{image_id}}"
    pool = htcondor_pool(address="192.0.2.7", universe="container", images=images, images_fallback="docker", gpus=1)
    made = spawner(SITE.model_copy(update={"pool": pool}), tmp_path)
    request = replace(REQUEST, workers=2, most_workers=20)
    said: list[str] = []
    made.look_for_image(request, {"org.casabinder.cuda": "12.6"}, said.append)
    told = made.workers_pool(request)
    assert (told["universe"], told["image"], told["gpus"], told["cuda_driver"]) == ("docker", request.tag, 1, "12.6")
    path = tmp_path / request.tag.rpartition(":")[2]
    assert said == [f"{path} is not there, so workers are started with Docker from the registry"]
    (path / "etc" / "casabinder").mkdir(parents=True)
    (path / "etc" / "casabinder" / "env.json").write_text(json.dumps({"env_id": request.env_id}))
    made.look_for_image(request, {}, said.append)
    told = made.workers_pool(request)
    assert (told["universe"], told["image"], told["gpus"]) == ("container", str(path), 0)
    assert len(said) == 1


def test_a_server_has_nothing_of_the_one_that_was_started_before(tmp_path: Path) -> None:
    pool = htcondor_pool(address="192.0.2.7", universe="container", images=f"{tmp_path}/{{image_id}}.sif")
    made = spawner(SITE.model_copy(update={"pool": pool}), tmp_path)
    request = replace(REQUEST, workers=2, most_workers=20)
    (tmp_path / f"{request.tag.rpartition(':')[2]}.sif").touch()
    made.look_for_image(request, {}, print)
    made._scheduler_port = 30_417
    other = replace(request, tag=request.tag.rpartition(":")[0] + ":" + "f" * 16)
    made.begin(other)
    assert made.workers_pool(other)["image"] == f"{tmp_path}/{'f' * 16}.sif"
    assert made._scheduler_port == 0


def test_without_workers_no_pool_is_told(tmp_path: Path) -> None:
    made = spawner(SITE, tmp_path)
    assert made.workers_pool(replace(REQUEST, workers=0, most_workers=0)) == {"kind": "local", "workers": 0}


def test_local_workers_need_no_pool() -> None:
    assert hub_pool(Site()) == {}
    made = VouchedDockerSpawner()
    assert (made.batch(), made.pool_token(), made.pool_token_is_due) == (None, "", False)


@pytest.mark.parametrize(
    ("hub", "pool", "sentence"),
    [
        (Hub(), {"address": "192.0.2.7"}, "temporary servers need `pool.user`"),
        (Hub(mode="login"), {}, "do not share the network of this machine.*`pool.exposure: host-port`"),
        (Hub(mode="login"), {"exposure": "pod-ip", "address": "192.0.2.7"}, "do not share the network"),
        (
            Hub(mode="login"),
            {"exposure": "sni", "domain": "dask.example.org", "address": "192.0.2.7"},
            "sni` is for servers in Kubernetes",
        ),
        (
            Hub(mode="login", spawner="kubernetes"),
            {"exposure": "host-port", "address": "192.0.2.7"},
            "pods have pod-ip or sni",
        ),
    ],
)
def test_a_site_whose_servers_can_not_have_workers_is_told_why(hub: Hub, pool: dict[str, str], sentence: str) -> None:
    with pytest.raises(CasabinderError, match=sentence):
        check_hub_pool(Site(hub=hub, pool=htcondor_pool(**pool)))


def test_good_sites() -> None:
    for hub, pool in ((Hub(mode="login"), {"address": "192.0.2.7"}), (Hub(mode="login", spawner="kubernetes"), {})):
        check_hub_pool(Site(hub=hub, pool=htcondor_pool(**pool)))


def test_a_password_for_all_is_warned_of() -> None:
    assert "whoever knows the password can take any name" in hub_pool_warning(SITE)
    github = SITE.model_copy(update={"hub": Hub(mode="login", authenticator="github")})
    assert [hub_pool_warning(site) for site in (github, Site(hub=Hub(mode="login")))] == ["", ""]
