"""What responses have in common, as data: security headers, CORS, and the sentence for every error."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError

from launcher.hub.client import HubError
from launcher.refusal import RefusedError
from registry_sync.errors import CasabinderError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import ValidationError

    from launcher.jobs.model import JobEvent

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
RETRY = b"retry: 3000\n\n"
"""How long an EventSource waits before it comes back, in milliseconds; an event stream begins with it."""

_SENTENCES = {
    400: "the request is not valid HTTP, or holds what can't be decoded",
    404: "there is nothing at this address",
    405: "this address does not know this method",
}


def cors_headers(allowed: Sequence[str], origin: str) -> dict[str, str]:
    """Return the headers that let pages of the origins that a site allows read answers, always without cookies."""
    if not allowed:
        return {}
    headers = {
        "Access-Control-Allow-Headers": "authorization, cache-control, content-type, last-event-id, x-xsrftoken",
        "Access-Control-Expose-Headers": "Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-Request-Id",
        "Access-Control-Max-Age": "600",
    }
    if "*" in allowed:
        return {"Access-Control-Allow-Origin": "*", **headers}
    if origin in allowed:
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **headers}
    return {"Vary": "Origin"}


def failure(error: BaseException | None, status: int, request_id: str) -> RefusedError:
    """Return what a request is answered with when ``error`` ended it (``status``: what tornado would say)."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, (HubError, RegistryError)):
        return RefusedError(str(error), HTTPStatus.SERVICE_UNAVAILABLE, retry_after=10)
    if isinstance(error, NotFoundError):
        return RefusedError(str(error), HTTPStatus.NOT_FOUND)
    if isinstance(error, CasabinderError):
        return RefusedError(str(error), HTTPStatus.BAD_REQUEST)
    if isinstance(error, HTTPError):
        status = error.status_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return RefusedError(f"something went wrong here; the log has it under {request_id}", status)
    return RefusedError(_SENTENCES.get(status, HTTPStatus(status).phrase), status)


def error_document(status: int, message: str, request_id: str) -> dict[str, Any]:
    """Return the JSON body of an error."""
    return {"error": {"status": status, "message": message, "request_id": request_id}}


def first_problem(error: ValidationError) -> str:
    """Return the first thing that is wrong, with its place, without what was sent."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def event_frames(events: Iterable[JobEvent]) -> bytes:
    """Return a job's events as a stream has them, with their numbers, by which a client resumes."""
    return "".join(f"id: {event.number}\ndata: {event.text}\n\n" for event in events).encode()


def data_frame(text: str) -> bytes:
    """Return an event without a number; ``text`` is one line."""
    return f"data: {text}\n\n".encode()
