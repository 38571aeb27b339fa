"""What goes wrong between a source and its wheel."""

from __future__ import annotations

from registry_sync.errors import CasabinderError


class SourceBuildError(CasabinderError):
    """A source that can't be fetched or can't be made into a wheel; the message names file and line that ask for it."""
