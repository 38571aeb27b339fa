"""Credentials that a CI puts into the environment."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from launcher.ci.login import PASSWORD, USER, logged_in, stated_login, without_passwords
from registry_sync.credentials import Credentials, docker_credentials


def test_ours_come_first_and_gitlabs_are_for_its_own_registry() -> None:
    gitlab = {"CI_REGISTRY": "registry.example.org", "CI_REGISTRY_USER": "ci", "CI_REGISTRY_PASSWORD": "job"}
    assert stated_login(gitlab, "registry.example.org") == ("ci", "job")
    assert stated_login(gitlab, "elsewhere.example.org") is None
    assert stated_login({**gitlab, USER: "robot", PASSWORD: "own"}, "registry.example.org") == ("robot", "own")
    assert stated_login({PASSWORD: ""}, "registry.example.org") is None


def test_they_are_a_file_for_as_long_as_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"auths": {"other.example.org": {"auth": "YTpi"}}, "credHelpers": {"registry.example.org": "nonesuch"}}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv(USER, "robot")
    monkeypatch.setenv(PASSWORD, "p:w")
    with logged_in(os.environ, "registry.example.org"):
        place = Path(os.environ["DOCKER_CONFIG"])
        assert place != tmp_path
        assert PASSWORD not in os.environ
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE((place / "config.json").stat().st_mode) == 0o600
        assert docker_credentials("registry.example.org") == Credentials("robot", "p:w")
        assert docker_credentials("other.example.org") == Credentials("a", "b")
    assert not place.exists()
    assert os.environ["DOCKER_CONFIG"] == str(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == kept


@pytest.mark.parametrize("registry", ["registry.example.org", "elsewhere.example.org"])
@pytest.mark.parametrize("ours", [{}, {USER: "robot", PASSWORD: "own"}])
def test_no_password_is_left_to_what_is_started(registry: str, ours: dict[str, str], tmp_path: Path) -> None:
    gitlab = {"CI_REGISTRY": "registry.example.org", "CI_REGISTRY_USER": "ci", "CI_REGISTRY_PASSWORD": "job"}
    environment = {**gitlab, **ours, "DOCKER_CONFIG": str(tmp_path)}
    with logged_in(environment, registry):
        assert not {PASSWORD, "CI_REGISTRY_PASSWORD"} & environment.keys()
    withheld = {**gitlab, **ours}
    without_passwords(withheld)
    assert not {PASSWORD, "CI_REGISTRY_PASSWORD"} & withheld.keys()


def test_without_any_the_environment_stays_as_it_is() -> None:
    environment = {"A": "b"}
    with logged_in(environment, "registry.example.org"):
        assert environment == {"A": "b"}
