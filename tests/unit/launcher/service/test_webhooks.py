"""Webhooks of an application without hub and network: what is refused before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launcher.refusal import RefusedError
from tests.testbed.jobs import waiting
from tests.testbed.service_app import running_app

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.jobs.model import Job

PUSH = {"ref": "refs/heads/main", "after": "a" * 40, "project": {"git_http_url": "https://gitlab.com/a/b.git"}}
SHOWN = {"X-Gitlab-Token": "a-secret-of-some-length"}


def taking_from_gitlab(directory: Path, **settings: object) -> dict[str, object]:
    """Return the webhooks of a site that shares a secret with GitLab."""
    secret = directory / "secret"
    secret.write_text("a-secret-of-some-length\n")
    secret.chmod(0o600)
    return {"gitlab": {"secret": str(secret)}, **settings}


@pytest.mark.parametrize("sender", ["github", "gitlab", "registry"])
def test_who_shares_no_secret_is_not_there(sender: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_app(tmp_path, monkeypatch) as app, app.client() as client:
        answer = client.post(f"/api/webhooks/{sender}", json={})
        assert (answer.status_code, "takes no webhooks" in answer.json()["error"]["message"]) == (404, True)
        assert len(client.cookies) == 0


def test_by_default_nothing_is_let_in_and_banned_networks_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks = taking_from_gitlab(tmp_path)
    with running_app(tmp_path / "1", monkeypatch, {"service": {"webhooks": webhooks}}) as app, app.client() as client:
        answer = client.post("/api/webhooks/gitlab", json=PUSH, headers=SHOWN)
        assert (answer.status_code, "builds no pushes" in answer.json()["error"]["message"]) == (403, True)
        assert app.services.store.find() == []
    banned = {"service": {"webhooks": webhooks, "banned_networks": ["127.0.0.0/8"]}}
    with running_app(tmp_path / "2", monkeypatch, banned) as app, app.client() as client:
        answer = client.post("/api/webhooks/gitlab", json=PUSH, headers=SHOWN)
        assert "not served here" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RefusedError("there is no such commit, or not yet", 404), 404),
        (RefusedError("the queue is full", 429), 429),
        (RuntimeError("the disk is full"), 500),
    ],
)
def test_a_message_that_began_nothing_may_be_sent_again(
    failure: Exception, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Exception | Job] = [failure, waiting("1", "service:webhook", "https://gitlab.com/a/b")]

    async def submit(*_: object, **__: object) -> Job:
        came = begun.pop(0)
        if isinstance(came, Exception):
            raise came
        return came

    webhooks = taking_from_gitlab(tmp_path, repositories=["gitlab.com/a/*"], branches=["main"])
    with running_app(tmp_path, monkeypatch, {"service": {"webhooks": webhooks}}) as app, app.client() as client:
        monkeypatch.setattr(app.services.desk, "submit", submit)
        shown = {**SHOWN, "Idempotency-Key": "1"}
        answers = [client.post("/api/webhooks/gitlab", json=PUSH, headers=shown).status_code for _ in range(3)]
    assert answers == [status, 202, 409]
