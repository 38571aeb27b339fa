"""Webhooks of an application without hub and network: what is refused before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.testbed.service_app import running_app

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("sender", ["github", "gitlab", "registry"])
def test_who_shares_no_secret_is_not_there(sender: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_app(tmp_path, monkeypatch) as app, app.client() as client:
        answer = client.post(f"/api/webhooks/{sender}", json={})
        assert (answer.status_code, "takes no webhooks" in answer.json()["error"]["message"]) == (404, True)
        assert len(client.cookies) == 0


def test_by_default_nothing_is_let_in_and_banned_networks_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-some-length\n")
    secret.chmod(0o600)
    webhooks = {"gitlab": {"secret": str(secret)}}
    push = {"ref": "refs/heads/main", "after": "a" * 40, "project": {"git_http_url": "https://gitlab.com/a/b.git"}}
    shown = {"X-Gitlab-Token": "a-secret-of-some-length"}
    with running_app(tmp_path / "1", monkeypatch, {"service": {"webhooks": webhooks}}) as app, app.client() as client:
        answer = client.post("/api/webhooks/gitlab", json=push, headers=shown)
        assert (answer.status_code, "builds no pushes" in answer.json()["error"]["message"]) == (403, True)
        assert app.services.store.find() == []
    banned = {"service": {"webhooks": webhooks, "banned_networks": ["127.0.0.0/8"]}}
    with running_app(tmp_path / "2", monkeypatch, banned) as app, app.client() as client:
        answer = client.post("/api/webhooks/gitlab", json=push, headers=shown)
        assert "not served here" in answer.json()["error"]["message"]
