"""Remembers answers of the resolver by their question, for a day: the index moves on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from builder.locking.pylock import LockedPackage
from registry_sync.files import write_atomically
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class LockMemory:
    """Answers under ``directory``. A ``fresh`` one remembers nothing of before, but keeps what it is told."""

    directory: Path
    clock: Callable[[], float]
    fresh: bool = False

    def recall(self, question: Mapping[str, object]) -> list[LockedPackage] | None:
        """Return the answer to a question that was asked within the last day."""
        if self.fresh:
            return None
        try:
            document = json.loads(self._place(question).read_bytes())
            if 0 <= self.clock() - float(document["time"]) < _SECONDS:
                return [LockedPackage(**package) for package in document["packages"]]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def keep(self, question: Mapping[str, object], packages: Iterable[LockedPackage]) -> None:
        """Remember an answer."""
        document = {"time": self.clock(), "packages": [asdict(package) for package in packages]}
        write_atomically(self._place(question), canonical_json(document))

    def _place(self, question: Mapping[str, object]) -> Path:
        return self.directory / (sha256_digest(canonical_json(question))[7:] + ".json")
