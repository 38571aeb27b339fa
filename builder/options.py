"""What may be asked of one build besides repository, ref and base."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.layers.layer import Compression


@dataclass(frozen=True)
class BuildOptions:
    """``as_of`` resolves requirements as of a date (``YYYY-MM-DD``, or ``commit`` for the commit's own), and wins over
    the repository's own ``as_of``. ``compression`` is the facility's, whatever is asked for."""

    as_of: str = ""
    compression: Compression = "gzip"

    def to_json(self) -> dict[str, Any]:
        """Return what decides the image, for the alias tag."""
        stated = {field.name: getattr(self, field.name) for field in fields(self)}
        return {field.name: stated[field.name] for field in fields(self) if stated[field.name] != field.default}


DEFAULTS = BuildOptions()
