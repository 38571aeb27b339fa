"""The exception of the layers' rooms."""

from __future__ import annotations

from registry_sync.errors import CasabinderError


class LayerError(CasabinderError):
    """The inputs of a layer (a wheel, a git tree) cannot be made into one; the message names the file at fault."""
