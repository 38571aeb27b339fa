"""What may be asked of one build besides repository, ref and base."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class BuildOptions:
    """``as_of`` resolves requirements as of a date (``YYYY-MM-DD``, or ``commit`` for the commit's own), and wins over
    the repository's own ``as_of``."""

    as_of: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what decides the image, for the alias tag."""
        return {name: value for name, value in asdict(self).items() if value}


DEFAULTS = BuildOptions()
