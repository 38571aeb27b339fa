"""What an HTTP answer of a registry says about a fault: status, error codes, when to come back.

Error documents are the distribution specification's ("Error Codes"), but a 4xx or 5xx may have any body (a proxy's
page, nothing), so they are read defensively.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from registry_sync.errors import RegistryError

SAID_LENGTH_MAX = 300


class RegistryFaultError(RegistryError):
    """A fault with what code needs to react to it; ``status`` is ``None`` if no answer came.

    ``transient`` says whether the same request may succeed later, ``retry_after`` (seconds) when.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        codes: tuple[str, ...] = (),
        transient: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.codes = codes
        self.transient = transient
        self.retry_after = retry_after


def read_errors(body: bytes) -> tuple[tuple[str, ...], str]:
    """Return the codes and a short printable text of an error document; both empty if ``body`` is anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return (), ""
    entries = document.get("errors") if isinstance(document, dict) else None
    errors = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    codes = tuple(str(entry.get("code") or "") for entry in errors)
    texts = [": ".join(str(entry[key]) for key in ("code", "message") if entry.get(key)) for entry in errors]
    return codes, "".join(c if c.isprintable() else " " for c in "; ".join(texts))[:SAID_LENGTH_MAX]


def read_retry_after(value: str | None) -> float | None:
    """Return the seconds a ``Retry-After`` header (seconds or a date) asks for, ``None`` if it is not one."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
