"""The service's log: one JSON object per line, with the ids of what a line is about and without secrets.

The ids are bound for the length of a request or a job (:func:`bound`), so that whoever logs need not know them, or are
given with a line (``extra={"job": ...}``).
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tornado.web import RequestHandler

FIELDS = ("request_id", "job", "env_id", "launch", "owner", "method", "route", "status", "seconds")
"""What a line may carry besides its message."""

_log = logging.getLogger(__name__)
_SECRET_VALUES = re.compile(r"(?i)([?&;\s][^=&\s?]*(?:token|auth|key|code|state|password|secret)[^=&\s?]*=)[^&\s#\"']+")
_AUTHORIZATION = re.compile(r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|token|basic)\s+)?[^\s\"',;]+")
_BEARER = re.compile(r"(?i)\b((?:bearer|token|basic)\s+)[A-Za-z0-9._~+/=-]{16,}")
_IN_ADDRESS = re.compile(r"(://)[^/@\s:]*(?::[^/@\s]*)?@")
_bound: ContextVar[Mapping[str, Any]] = ContextVar("log_fields", default={})  # noqa: B039 - never changed in place


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Give every line that is logged inside these ids (of :data:`FIELDS`)."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def scrubbed(text: str) -> str:
    """Return a text without what opens something: tokens in queries, headers and addresses."""
    text = _SECRET_VALUES.sub(r"\1[secret]", text)
    text = _AUTHORIZATION.sub(r"\1[secret]", text)
    text = _BEARER.sub(r"\1[secret]", text)
    return _IN_ADDRESS.sub(r"\1[secret]@", text)


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: ``time`` (RFC 3339), ``level``, ``logger``, ``message``, ids, ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrubbed(record.getMessage()),
        }
        ids = _bound.get()
        for name in FIELDS:
            value = getattr(record, name, ids.get(name))
            if value is not None and value != "":
                line[name] = scrubbed(value) if isinstance(value, str) else value
        if record.exc_info:
            line["error"] = scrubbed(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to one place, as JSON lines (standard error unless stated)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # httpx logs every request at level info, the ones to the hub with their addresses: those are of no use here.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def log_request(handler: RequestHandler) -> None:
    """Log and count a request that has ended; what went well and is asked for all the time is of level debug."""
    request = handler.request
    status, seconds = handler.get_status(), request.request_time()
    route = type(handler).__name__
    method = request.method if request.method in handler.SUPPORTED_METHODS else "other"
    handler.settings["services"].metrics.request_ended(route, method, status, seconds)
    quiet = getattr(handler, "quiet", False) and status < HTTPStatus.BAD_REQUEST
    level = logging.DEBUG if quiet else logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
    about = {"request_id": getattr(handler, "request_id", ""), "method": request.method, "route": route}
    _log.log(
        level,
        "%s %s",
        request.method,
        request.uri,
        extra={**about, "status": status, "seconds": round(seconds, 4)},
    )
