"""Docker's config.json: every form of an entry, helpers, and that nothing secret gets out."""

import base64
import json
from pathlib import Path

import pytest

from registry_sync.credentials import Credentials, DockerConfig, docker_credentials
from registry_sync.errors import RegistryAuthError


def config(tmp_path: Path, document: object) -> DockerConfig:
    path = tmp_path / "config.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return DockerConfig.load(path)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    program = tmp_path / "bin" / f"docker-credential-{name}"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


@pytest.mark.parametrize("key", ["r.example", "https://r.example", "http://r.example/v2/", "https://r.example/v1/"])
def test_an_entry_is_found_under_docker_s_names_for_it(tmp_path: Path, key: str) -> None:
    found = config(tmp_path, {"auths": {"other": {}, key: {"auth": encoded("anna:pass:word")}}})
    assert found.credentials("r.example") == Credentials("anna", "pass:word")
    assert found.credentials("r.example:5000") is None


def test_forms_of_an_entry(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        {
            "auths": {
                "plain.example": {"username": "anna", "password": "secret"},
                "identity.example": {"auth": encoded("anna:"), "identitytoken": "refresh"},
                "token.example": {"registrytoken": "ready"},
                "empty.example": {},
                "https://index.docker.io/v1/": {"auth": encoded("hub:secret")},
            }
        },
    )
    assert found.credentials("plain.example") == Credentials("anna", "secret")
    assert found.credentials("identity.example") == Credentials("anna", identity_token="refresh")
    assert found.credentials("token.example") == Credentials(registry_token="ready")
    assert found.credentials("empty.example") is None
    assert found.credentials("docker.io") == Credentials("hub", "secret")


def test_a_missing_file_has_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert docker_credentials("r.example") is None
    config(tmp_path, {"auths": {"r.example": {"auth": encoded("anna:secret")}}})
    assert docker_credentials("r.example") == Credentials("anna", "secret")


@pytest.mark.parametrize("document", ["{", "[]", {"auths": {"r.example": {"auth": "c2VjcmV0"}}}])
def test_a_damaged_file_is_told_without_its_content(tmp_path: Path, document: object) -> None:
    with pytest.raises(RegistryAuthError, match=r"config\.json") as refused:
        config(tmp_path, document).credentials("r.example")
    assert "secret" not in str(refused.value)
    assert "c2VjcmV0" not in str(refused.value)


def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'read host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"$1\\"}"'
    helper(tmp_path, monkeypatch, "echo", script)
    by_host = config(tmp_path, {"credHelpers": {"r.example": "echo"}})
    assert by_host.credentials("r.example") == Credentials("r.example", "get")
    assert by_host.credentials("other.example") is None
    default = config(tmp_path, {"credsStore": "echo", "auths": {"r.example": {}}})
    assert default.credentials("r.example") == Credentials("r.example", "get")


def test_a_helper_may_have_a_token_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "token", 'echo \'{"Username": "<token>", "Secret": "refresh"}\'')
    found = config(tmp_path, {"credHelpers": {"r.example": "token"}})
    assert found.credentials("r.example") == Credentials(identity_token="refresh")
    helper(tmp_path, monkeypatch, "token", "echo credentials not found in native keychain; exit 1")
    assert found.credentials("r.example") is None


@pytest.mark.parametrize("script", ["echo s3cret; exit 1", "echo s3cret", 'echo \'{"Secret": "s3cret"}\''])
def test_a_failing_helper_is_told_without_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    helper(tmp_path, monkeypatch, "bad", script)
    with pytest.raises(RegistryAuthError, match="docker-credential-bad") as refused:
        config(tmp_path, {"credHelpers": {"r.example": "bad"}}).credentials("r.example")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("name", ["../evil", "a b", "-x", "a/b"])
def test_a_helper_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(RegistryAuthError, match="not a plain name"):
        config(tmp_path, {"credsStore": name}).credentials("r.example")


def test_a_helper_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RegistryAuthError, match="cannot be run"):
        config(tmp_path, {"credsStore": "that-nobody-has"}).credentials("r.example")


def test_secrets_are_not_in_the_repr() -> None:
    shown = repr(Credentials("anna", "s3cret", "s3cret", "s3cret"))
    assert "anna" in shown
    assert "s3cret" not in shown
