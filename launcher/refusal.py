"""Why the launch service does not do what it was asked, with the HTTP status that says so."""

from __future__ import annotations

from registry_sync.errors import CasabinderError


class RefusedError(CasabinderError):
    """A request that is not granted. ``status`` is an HTTP status; ``retry_after`` is in seconds (0: don't)."""

    def __init__(self, message: str, status: int = 400, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
