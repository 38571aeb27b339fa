"""The status badge of an application without hub and network: what it says to whom, how often, and what it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launcher.service import status_badge
from launcher.site_config import Rate
from tests.testbed.service_app import running_app

if TYPE_CHECKING:
    from pathlib import Path

# Its own address is refused before anybody is asked.
REPOSITORY = "/badge/git/http%3A%2F%2F127.0.0.1%3A1%2Frepo/HEAD.svg"


@pytest.mark.parametrize("path", [REPOSITORY, "/badge/gh/only-a-user.svg", "/badge/nobody/x/y/z.svg"])
def test_what_can_t_be_built_is_not_built(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_app(tmp_path, monkeypatch) as app, app.client() as client:
        answer = client.get(path)
        assert (answer.status_code, "casabinder: not built" in answer.text) == (200, True)
        head = client.head(path)
        assert (head.status_code, head.content, head.headers["Etag"]) == (200, b"", answer.headers["Etag"])
        assert client.get(path, headers={"If-None-Match": answer.headers["Etag"]}).status_code == 304
        assert len(client.cookies) == 0
        assert client.get(path, params={"as_of": "soon"}).status_code == 400
        assert client.post(path).status_code == 405


@pytest.mark.parametrize(("stated", "word"), [(None, "not built"), (False, "not built"), (True, "unknown")])
def test_where_people_log_in_the_site_decides(
    stated: bool | None, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = {
        "hub": {"mode": "login"},
        "service": {"status_badges": stated},
        "repositories": {"private_addresses": True},  # where nobody answers
    }
    with running_app(tmp_path, monkeypatch, site) as app, app.client() as client:
        assert f"casabinder: {word}" in client.get(REPOSITORY).text


def test_questions_are_counted_and_what_is_known_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_badge, "QUESTIONS", Rate(requests=2, seconds=60))
    with running_app(tmp_path, monkeypatch) as app, app.client() as client:
        answers = [client.get(f"/badge/gh/user{number}.svg") for number in (1, 1, 1, 2, 2, 3, 1)]
    # All readers of a page on GitHub come from one address: a badge of theirs is never a broken picture.
    assert [answer.status_code for answer in answers] == [200] * 7
    assert [answer.text.count("casabinder: unknown") > 0 for answer in answers] == [False] * 5 + [True, False]
    assert answers[5].headers["Cache-Control"] == "public, max-age=10"
    assert answers[6].headers["Cache-Control"] == "public, max-age=60"


def test_without_a_question_left_the_last_word_is_said_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_badge, "QUESTIONS", Rate(requests=1, seconds=60))
    monkeypatch.setattr(status_badge, "FRESH_SECONDS", 0)
    with running_app(tmp_path, monkeypatch) as app, app.client() as client:
        answers = [client.get("/badge/gh/user.svg") for _ in range(2)]
    assert all("casabinder: not built" in answer.text for answer in answers)
    assert answers[1].headers["Cache-Control"] == "public, max-age=10"
