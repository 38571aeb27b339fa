"""Decides which wheels get a layer of their own and which share one, and merges the entries of those that share.

A layer is found again by every image that has the very same wheels in it; but each layer costs a request, and time
when it is pulled, and engines stop at 127. Nobody's popularity figures go in, only names, sizes and the budget:

- A wheel of at least ``alone`` bytes gets a layer of its own, the largest first.
- A smaller one goes into one of ``BUCKETS`` shared layers: the one that the sha256 of its *name* says. So where two
  environments differ in a few small wheels, only the shared layers of these differ, and another version of a wheel
  falls where the one before fell.
- When that is over the budget, the number of shared layers is halved until it is not; what shared a layer then still
  does. When one is too many still, the smallest of the large wheels join it.

With ``alone`` = 1 MB; the names put hist and pylhe into bucket 0 of 4, vector into 2::

    wheels        xgboost 130 MB, scipy 35 MB, awkward-cpp 1.2 MB, vector 0.2 MB, hist 0.1 MB, pylhe 0.1 MB
    budget 1      (awkward-cpp, hist, pylhe, scipy, vector, xgboost)
    budget 2      (xgboost)  (awkward-cpp, hist, pylhe, scipy, vector)
    budget 3      (xgboost)  (scipy)  (awkward-cpp, hist, pylhe, vector)
    budget 4      (xgboost)  (scipy)  (awkward-cpp)  (hist, pylhe, vector)        two buckets: 0 has all of them
    budget 5..    (xgboost)  (scipy)  (awkward-cpp)  (hist, pylhe)  (vector)

Somebody who asks for particle, too (bucket 2), changes the last layer alone; all others are mounted as they are.
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
BUCKETS = 4
"""The most layers that small wheels share; a power of two, as fewer come of halving. Chosen by measurement:
docs/explanation/layers.md."""


@dataclass(frozen=True)
class WheelSize:
    """A wheel to be layered: the package's name, the wheel's size in bytes, and the key of its layer."""

    name: str
    size: int
    key: str


def group(wheels: Sequence[WheelSize], budget: int, alone: int = ALONE) -> list[tuple[WheelSize, ...]]:
    """Return the wheels of each layer: single large ones by falling size, then shared layers, each in order of names.

    The result does not depend on the order of ``wheels`` and has at most ``budget`` (at least 1) layers, none empty.
    """
    if budget < 1:
        raise ValueError(f"wheels need at least one layer, and the budget is {budget}")
    ordered = sorted(wheels, key=lambda wheel: (-wheel.size, wheel.name, wheel.key))
    large = [wheel for wheel in ordered if wheel.size >= alone]
    buckets = BUCKETS
    while len(large) + len(shared := _buckets(ordered[len(large) :], buckets)) > budget:
        if buckets > 1:
            buckets //= 2
        else:
            large = large[: budget - 1]
    return [*((wheel,) for wheel in large), *shared]


def _buckets(wheels: Iterable[WheelSize], buckets: int) -> list[tuple[WheelSize, ...]]:
    """Return the wheels of each bucket that has any, in order of buckets, the wheels in order of names."""
    found: dict[int, list[WheelSize]] = {}
    for wheel in sorted(wheels, key=lambda wheel: (wheel.name, wheel.key)):
        found.setdefault(bucket(wheel.name, buckets), []).append(wheel)
    return [tuple(found[number]) for number in sorted(found)]


def bucket(name: str, buckets: int) -> int:
    """Return the bucket of a package's name; half as many buckets are pairs of these."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[-4:], "big") % buckets


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
