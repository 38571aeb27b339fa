"""What webhooks say, and which pushes a site lets in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from launcher.service.webhook_events import GitHubPush, GitLabPush, Push, lets_in, push_of
from launcher.site_config import Webhooks

COMMIT, NONE = "a" * 40, "0" * 40
GITHUB = {"ref": "refs/heads/feature/x", "after": COMMIT, "repository": {"clone_url": "https://github.com/t/r.git"}}
GITLAB = {"ref": "refs/heads/main", "after": COMMIT, "project": {"git_http_url": "https://gitlab.com/t/r.git"}}


def test_a_push_is_read() -> None:
    github = push_of(GitHubPush.model_validate({**GITHUB, "pusher": {"name": "x"}}))
    assert github == Push("https://github.com/t/r.git", "feature/x", COMMIT)
    assert push_of(GitLabPush.model_validate(GITLAB)) == Push("https://gitlab.com/t/r.git", "main", COMMIT)


@pytest.mark.parametrize("change", [{"ref": "refs/tags/v1"}, {"after": NONE}, {"repository": None}, {"ref": None}])
def test_what_is_no_push_of_a_branch(change: dict[str, Any]) -> None:
    assert push_of(GitHubPush.model_validate({**GITHUB, **change})) is None


@pytest.mark.parametrize(
    "change",
    [{"after": "HEAD"}, {"after": COMMIT + "/../x"}, {"ref": "refs/heads/a\nb"}, {"ref": 1}, {"repository": {}}],
)
def test_what_is_no_message(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GitHubPush.model_validate({**GITHUB, **change})


@pytest.mark.parametrize(
    ("repositories", "branches", "url", "branch", "let_in"),
    [
        ((), (), "https://github.com/t/r", "main", False),
        (("github.com/t/*",), (), "https://github.com/t/r", "main", False),
        ((), ("*",), "https://github.com/t/r", "main", False),
        (("github.com/t/*",), ("main",), "https://github.com/t/r", "main", True),
        (("github.com/T/R.git",), ("main",), "https://GitHub.com/t/r.git", "main", True),
        (("github.com/t/*",), ("main",), "https://github.com/t2/r", "main", False),
        (("github.com/t/*",), ("main",), "https://github.com/t/../u/r", "main", False),
        (("github.com/t/*",), ("main",), "https://evil.example.org/github.com/t/r", "main", False),
        (("github.com/t/*",), ("main", "release/*"), "https://github.com/t/r", "release/1", True),
        (("github.com/t/*",), ("main",), "https://github.com/t/r", "Main", False),
        (("github.com/t/*",), ("main",), "https://github.com/t/r", "main2", False),
    ],
)
def test_both_lists_decide(
    repositories: tuple[str, ...], branches: tuple[str, ...], url: str, branch: str, let_in: bool
) -> None:
    webhooks = Webhooks(repositories=repositories, branches=branches)
    assert lets_in(webhooks, Push(url, branch, COMMIT), url) is let_in
