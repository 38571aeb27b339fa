from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from jupyterhub.slugs import is_valid_safe_slug

from builder.record import BaseFacts
from launcher.container import LaunchOptions
from launcher.hub.launch import Launch, Origin
from launcher.hub.launch_request import bounded, make_request, without_workers_if_foreign
from launcher.refusal import RefusedError
from launcher.security.principal import Principal
from launcher.site_config import Hub, Limits, Site
from tests.unit.launcher.records import RECORD, htcondor_pool, record

SITE = Site(limits=Limits(cpus=2, memory="4G", workers=4))
OPTIONS = LaunchOptions(workers=1, cpus=1.0, memory="2G")
VISITOR, ANN = Principal("visitor", "v1"), Principal("user", "ann")
LOGIN = Site(hub=Hub(mode="login"))


def test_options_within_the_limits_stay_and_say_how_far_they_scale() -> None:
    assert bounded(OPTIONS, SITE) == replace(OPTIONS, maximum=4)
    assert bounded(replace(OPTIONS, maximum=9), SITE).maximum == 4
    assert bounded(replace(OPTIONS, memory="1G"), SITE).maximum == 3  # as many as the memory is enough for


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cpus": 2.5}, "2.5 processors were asked for, and this site gives up to 2"),
        ({"cpus": 0}, "0 processors were asked for, and this site gives up to 2"),
        ({"memory": "5G"}, "5G of memory were asked for, and this site gives up to 4G"),
        ({"memory": "much"}, "'much' is not a size of memory"),
        ({"workers": 5}, "5 Dask workers were asked for, and this site gives up to 4"),
        ({"workers": 4, "memory": "1G"}, "1G of memory is enough for 3 Dask workers, not for 4"),
    ],
)
def test_options_beyond_the_limits_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence) as caught:
        bounded(replace(OPTIONS, **changes), SITE)  # type: ignore[arg-type]
    assert caught.value.status == 400


def test_workers_of_a_pool_take_no_memory_of_the_server() -> None:
    site = Site(limits=Limits(memory="1G", workers=1), pool=htcondor_pool(maximum=30))
    options = replace(OPTIONS, memory="256M", workers=20)
    assert bounded(options, site) == replace(options, maximum=30)
    with pytest.raises(RefusedError, match="31 Dask workers were asked for, and this site gives up to 30"):
        bounded(replace(options, workers=31), site)


@pytest.mark.parametrize("name", ["condor", "Root", "o brien", "7th", "ann@example.org"])
def test_who_can_be_no_user_of_the_pool_launches_without_workers(name: str) -> None:
    site = Site(hub=Hub(mode="login"), pool=htcondor_pool())
    with pytest.raises(
        RefusedError, match=rf"{name!r} can't be a user of the HTCondor pool.*without Dask workers"
    ) as e:
        make_request(RECORD, OPTIONS, Principal("user", name), Origin(), site)
    assert e.value.status == 400
    make_request(RECORD, replace(OPTIONS, workers=0), Principal("user", name), Origin(), site)
    make_request(RECORD, OPTIONS, VISITOR, Origin(), Site(pool=htcondor_pool(user="facility")))


def test_a_foreign_image_that_has_no_workers_starts_without() -> None:
    foreign = record(base=BaseFacts("Dockerfile", "binder/Dockerfile", "", "3.12"))
    options, said = without_workers_if_foreign(OPTIONS, foreign, {"org.casabinder.workers": "no"})
    assert (options.workers, options.most_workers) == (0, 0)
    assert said == "the image that binder/Dockerfile makes can't run Dask workers: the server starts without"
    assert without_workers_if_foreign(OPTIONS, foreign, {"org.casabinder.workers": "yes"}) == (OPTIONS, "")


def test_a_temporary_server_has_a_user_of_its_own() -> None:
    first, second = (make_request(RECORD, OPTIONS, VISITOR, Origin(), Site()) for _ in range(2))
    assert first.user.startswith("agc-ttbar-")
    assert (first.server, first.mode) == ("", "anonymous")
    assert first.user != second.user
    assert first.id != second.id
    assert first.image == f"127.0.0.1:5000/casabinder/agc-ttbar-0a1b2c@{RECORD.digest}"


def test_a_persons_server_is_named_by_image_and_options() -> None:
    first, second = (make_request(RECORD, OPTIONS, ANN, Origin(), LOGIN) for _ in range(2))
    assert (first.user, first.server) == ("ann", second.server)
    others = [
        make_request(RECORD, replace(OPTIONS, cpus=2.0), ANN, Origin(), LOGIN),
        make_request(record(commit="3" * 40), OPTIONS, ANN, Origin(), LOGIN),
        make_request(record(digest=f"sha256:{'e' * 64}"), OPTIONS, ANN, Origin(), LOGIN),
    ]
    assert len({first.server, *(other.server for other in others)}) == 4


@pytest.mark.parametrize("name", ["agc", "2024-analysis", "a.b__c", "x" * 80, "7"])
def test_the_hub_takes_a_servers_name(name: str) -> None:
    image = f"127.0.0.1:5000/casabinder/{name}-0a1b2c:0123456789abcdef"
    assert is_valid_safe_slug(make_request(record(image=image), OPTIONS, ANN, Origin(), LOGIN).server)


@pytest.mark.parametrize("principal", [VISITOR, Principal("service", "robot", admin=True)])
def test_servers_belong_to_people_where_people_log_in(principal: Principal) -> None:
    with pytest.raises(RefusedError, match="log in to launch") as caught:
        make_request(RECORD, OPTIONS, principal, Origin(), LOGIN)
    assert caught.value.status == 403


def test_where_a_launch_came_from_is_told_as_binderhub_does() -> None:
    origin = Origin("https://hub.example.org/", "v2/gh/team/agc/main", "v2/gh/team/agc/222", "192.0.2.7")
    request = make_request(RECORD, OPTIONS, VISITOR, origin, Site())
    assert request.environment == {
        "BINDER_LAUNCH_HOST": "https://hub.example.org/",
        "BINDER_REQUEST": "v2/gh/team/agc/main",
        "BINDER_PERSISTENT_REQUEST": "v2/gh/team/agc/222",
        "BINDER_CLIENT_IP": "192.0.2.7",
    }
    assert make_request(RECORD, OPTIONS, VISITOR, Origin(), Site()).environment == {}


def test_a_servers_path_is_quoted() -> None:
    names = ("image", "digest", "env_id", "repo", "ref", "commit", "provider", "spec")
    fields: dict[str, Any] = dict.fromkeys(names, "")
    launch = Launch(id="l", owner="user:a", user="a b/c", server="x?y", state="ready", created=0.0, **fields)
    assert launch.path == "/user/a%20b%2Fc/x%3Fy/"
    assert replace(launch, user="ann", server="").path == "/user/ann/"
