"""Which pins of a committed lock may change when it is made anew: all, some, or only those that have to.

As with uv and pip-tools, a lock keeps what it has as far as the requirements still allow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.locking.pylock import entry_name, read_entries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from base_images.definition import Pin


@dataclass(frozen=True)
class Upgrade:
    """What is to be taken as the index has it today: ``everything``, or the ``packages`` (canonical names)."""

    everything: bool = False
    packages: frozenset[str] = frozenset()

    def kept(self, pins: Iterable[Pin]) -> list[Pin]:
        """Return the pins that stay if they can."""
        return [pin for pin in pins if not self.everything and pin.name not in self.packages]


KEEP = Upgrade()


def preferences(pins: Iterable[Pin]) -> str:
    """Return pins as the earlier lock that the resolver prefers the versions of; ``""`` for none."""
    entries = [f'\n[[packages]]\nname = "{pin.name}"\nversion = "{pin.version}"\n' for pin in pins]
    return 'lock-version = "1.0"\ncreated-by = "casabinder"\n' + "".join(entries) if entries else ""


def same_wheels(text: str, pins: Iterable[Pin], source: str) -> dict[str, str]:
    """Return the hashes, by name, of the wheels that stay since the versions in the new lock ``text`` are the pins'."""
    versions = {entry_name(entry, source): str(entry.get("version", "")) for entry in read_entries(text, source)}
    return {pin.name: pin.sha256 for pin in pins if versions.get(pin.name) == pin.version}
