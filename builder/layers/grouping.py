"""Decides which wheels get a layer of their own and which share one, and merges the entries of those that share.

A layer of its own is found again by every image with the same wheel; but each layer costs a request, and time when
it is pulled, and engines stop at 127. So wheels of at least ``alone`` bytes get their own layer, the largest first,
while the budget lasts, and all others share the last one. With ``alone`` = 1 MB::

    wheels        xgboost 130 MB, scipy 35 MB, awkward-cpp 1.2 MB, vector 0.2 MB, hist 0.1 MB
    budget 1      (awkward-cpp, hist, scipy, vector, xgboost)
    budget 2      (xgboost)  (awkward-cpp, hist, scipy, vector)
    budget 3      (xgboost)  (scipy)  (awkward-cpp, hist, vector)
    budget 4..    (xgboost)  (scipy)  (awkward-cpp)  (hist, vector)

and without the two small ones a budget of 3 gives three layers of one wheel each.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.layers.errors import LayerError
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.layers.layer import Entry

ALONE = 1024 * 1024
"""The size in bytes from which a wheel is worth a layer of its own."""


@dataclass(frozen=True)
class WheelSize:
    """A wheel to be layered: the package's name, the wheel's size in bytes, and the key of its layer."""

    name: str
    size: int
    key: str


def group(wheels: Sequence[WheelSize], budget: int, alone: int = ALONE) -> list[tuple[WheelSize, ...]]:
    """Return the wheels of each layer: single ones by falling size, then the shared layer in order of names.

    The result does not depend on the order of ``wheels`` and has at most ``budget`` (at least 1) layers, none empty.
    """
    if budget < 1:
        raise ValueError(f"wheels need at least one layer, and the budget is {budget}")
    ordered = sorted(wheels, key=lambda wheel: (-wheel.size, wheel.name, wheel.key))
    large = [wheel for wheel in ordered if wheel.size >= alone]
    if len(large) > budget or (len(large) == budget and len(large) < len(ordered)):
        large = large[: budget - 1]
    shared = tuple(sorted(ordered[len(large) :], key=lambda wheel: (wheel.name, wheel.key)))
    return [*((wheel,) for wheel in large), *((shared,) if shared else ())]


def group_key(wheels: Iterable[WheelSize]) -> str:
    """Return the key of the layer that ``wheels`` share: the wheel's own for one, a hash of names and keys for more."""
    members = sorted((wheel.name, wheel.key) for wheel in wheels)
    if len(members) == 1:
        return members[0][1]
    return hashlib.sha256(canonical_json({"kind": "group", "wheels": members})).hexdigest()


def merge_entries(wheels: Iterable[tuple[str, Iterable[Entry]]]) -> list[Entry]:
    """Return the entries of several wheels, given as ``(name, entries)``, as those of one layer.

    Where two wheels have a file at one path, the last by name wins, as it would if they were installed in that order.

    Raises:
        LayerError: a path is a directory in one wheel and something else in another.
    """
    merged: dict[str, tuple[str, Entry]] = {}
    for name, entries in sorted(wheels, key=lambda wheel: wheel[0]):
        for entry in entries:
            other, there = merged.get(entry.path, (name, entry))
            if (there.kind == "directory") != (entry.kind == "directory"):
                raise LayerError(f"{entry.path!r} is a {there.kind} in {other} and a {entry.kind} in {name}")
            merged[entry.path] = (name, entry)
    return [entry for _, entry in merged.values()]
