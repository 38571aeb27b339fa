from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from launcher.hub.docker_spawner import VouchedDockerSpawner
from launcher.hub.spawner import StartError, last_words, plain_server, request_environment, request_labels
from tests.unit.launcher.hub.test_vouching import REQUEST

WORKERS: dict[str, str | int] = {"kind": "local", "workers": 1}


def test_the_environment_is_what_the_design_promises_and_has_no_secret() -> None:
    environment = request_environment(REQUEST, WORKERS)
    assert environment == {
        "BINDER_REF_URL": f"https://github.com/team/agc/tree/{'2' * 40}",
        "BINDER_REPO_URL": "https://github.com/team/agc.git",
        "BINDER_REQUEST": "v2/gh/team/agc/main",
        "CASABINDER_ENV_ID": "26fca59ae82528b4",
        "CASABINDER_IMAGE": REQUEST.tag,
        "CASABINDER_IMAGE_DIGEST": REQUEST.digest,
        "CASABINDER_POOL": '{"kind":"local","workers":1}',
        "CASABINDER_SECRETS": "/run/casabinder",
        "JUPYTER_TOKEN_FILE": "/run/casabinder/token",
    }


def test_a_server_is_told_what_data_are_read_with() -> None:
    spawner = VouchedDockerSpawner(data={"environment": {"XCACHE_HOST": "xcache"}}, mode="anonymous")
    spawner._request = REQUEST
    told = json.loads(spawner.get_env()["CASABINDER_POOL"])
    assert told["environment"] == {"XCACHE_HOST": "xcache"}
    assert told["kind"] == "local"


def test_the_labels_are_not_those_of_the_command_line() -> None:
    labels = request_labels(REQUEST, "0123456789ab")
    assert labels["org.casabinder.hub"] == "0123456789ab"
    assert labels["org.casabinder.launch"] == "r1"
    assert not {"org.casabinder.notebook", "org.casabinder.owner"} & set(labels)


def test_a_plain_server_is_below_its_prefix_and_open_to_the_sites_origins_alone() -> None:
    command = plain_server("/user/agc/", [])
    assert command[:2] == ["/bin/sh", "-c"]
    assert "--ServerApp.base_url=/user/agc/" in command
    assert not [argument for argument in command if "allow_origin" in argument]
    some = plain_server("/user/agc/", ["https://a.example.org", "https://b.example.org"])
    assert some[-1] == r"--ServerApp.allow_origin_pat=^(?:https://a\.example\.org|https://b\.example\.org)$"
    assert plain_server("/", ["*"])[-1] == "--ServerApp.allow_origin=*"


def test_last_words_are_short_and_printable() -> None:
    assert last_words("") == "none"
    assert last_words("one\n\n  two\x1b[0m\x07\r\n") == "one | two [0m"
    long = last_words("x" * 1000)
    assert (len(long), long[0]) == (301, "…")


def test_a_cause_that_is_known_is_told_as_html_too() -> None:
    known, unknown = StartError("<b> & so on"), StartError("broken", final=False)
    assert known.jupyterhub_message == "<b> & so on"
    assert known.jupyterhub_html_message == "&lt;b&gt; &amp; so on"
    assert not hasattr(unknown, "jupyterhub_html_message")


def is_taken(status: str = "exited", **asked: Any) -> bool:
    """Say whether the container that was kept of ``REQUEST`` is taken for what is asked for now."""
    spawner = VouchedDockerSpawner(keep_stopped=True, owner="hub")
    host = {"Memory": REQUEST.memory, "NanoCpus": 1_500_000_000, "DeviceRequests": None}
    labels = request_labels(REQUEST, "hub")
    container = {"Config": {"Labels": labels}, "HostConfig": host, "State": {"Status": status}}
    return spawner._same(container, replace(REQUEST, **asked))


@pytest.mark.parametrize("other", [{"gpus": 1}, {"workers": 2}, {"digest": f"sha256:{'e' * 64}"}])
def test_a_kept_container_that_is_not_what_is_asked_for_is_not_taken(other: dict[str, Any]) -> None:
    assert not is_taken(**other)


@pytest.mark.parametrize(
    "other",
    [
        {"id": "r2"},
        {"ref": "v1.0"},
        {"repo": "https://github.com/ann/agc.git"},
        {"environment": {"BINDER_REQUEST": "v2/gh/team/agc/v1.0"}},
        {"memory": REQUEST.memory - 4096},  # a new kernel leaves a little less of the machine's
    ],
)
def test_a_kept_container_is_taken_whatever_it_is_called_now(other: dict[str, Any]) -> None:
    assert is_taken(**other)


def test_a_container_that_never_ran_is_not_taken() -> None:
    assert is_taken()
    assert not is_taken("created")


@pytest.mark.parametrize(("keep", "resumes"), [(True, True), (False, False)])
def test_the_hub_keeps_the_token_of_a_container_that_stays(keep: bool, resumes: bool) -> None:
    assert VouchedDockerSpawner(keep_stopped=keep).will_resume is resumes
