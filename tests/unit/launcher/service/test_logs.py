"""Log lines: JSON, one each, with ids and without secrets."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from launcher.service.logs import JsonFormatter, bound, scrubbed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("test.logs")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_ids_of_what_it_is_about(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    with bound(request_id="r1", job="j1"):
        logger.info("queued")
        with bound(job="j2"):
            logger.warning("again", extra={"env_id": "e1"})
    logger.info("outside")
    first, second, third = lines(stream)
    assert (first["request_id"], first["job"], first["level"]) == ("r1", "j1", "info")
    assert (second["request_id"], second["job"], second["env_id"]) == ("r1", "j2", "e1")
    assert "job" not in third
    assert third["time"].endswith("+00:00")


def test_line_breaks_and_exceptions_stay_in_their_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    try:
        raise ValueError('a\n{"level": "forged"}?token=5ec7e7')
    except ValueError:
        logger.exception("bad ref %s", "x\ny")
    [line] = lines(stream)
    assert line["message"] == "bad ref x\ny"
    assert "ValueError" in line["error"]
    assert "5ec7e7" not in line["error"]


@pytest.mark.parametrize(
    "text",
    [
        "GET /build/gh/a/b/HEAD?build_token=SECRET&x=1",
        "GET /hub/api/oauth2/authorize?client_id=a&code=SECRET&state=SECRET HTTP/1.1",
        "Authorization: token SECRET",
        "{'authorization': 'Bearer SECRET'}",
        "sent Bearer SECRETSECRETSECRETSECRET to it",
        "fatal: https://user:SECRET@host.test/repo.git not found",
        "https://SECRET@host.test/",
        "?_xsrf_key=SECRET#there",
        "password=1; api_token=SECRET",
    ],
)
def test_what_opens_something_is_not_in_the_log(text: str) -> None:
    assert "SECRET" not in scrubbed(text)


def test_what_opens_nothing_stays() -> None:
    for text in ("GET /v2/gh/a/b/HEAD?urlpath=lab/tree/a.ipynb", "https://host.test/a:b@c", "the token is wrong"):
        assert scrubbed(text) == text
