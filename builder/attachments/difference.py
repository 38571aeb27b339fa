"""Says what changed between two images, package by package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.attachments.inspection import Inspection

ENVIRONMENTS = ("analysis", "server", "system")


@dataclass(frozen=True)
class PackageChange:
    """A package that is not the same in both: a version is empty where the package is not there.

    Equal versions are another artifact (wheel) of one version.
    """

    environment: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Difference:
    """What differs; pairs are (before, after) and ``None`` where both are equal."""

    packages: tuple[PackageChange, ...]
    base: tuple[str, str] | None = None
    python: tuple[str, str] | None = None
    tree: tuple[str, str] | None = None
    digest: tuple[str, str] | None = None

    @property
    def equal(self) -> bool:
        """Whether the two are one image: the same manifest digest."""
        return self.digest is None

    def to_json(self) -> dict[str, Any]:
        """Return the difference as a JSON object without what is equal."""
        pairs = {"digest": self.digest, "base": self.base, "python": self.python, "tree": self.tree}
        return {
            "equal": self.equal,
            **{name: {"before": pair[0], "after": pair[1]} for name, pair in pairs.items() if pair},
            "packages": [vars(change) for change in self.packages],
        }


def compare_images(before: Inspection, after: Inspection) -> Difference:
    """Return what differs between two images (or bases)."""
    changes = []
    for environment in ENVIRONMENTS:
        old, new = before.contents.of(environment), after.contents.of(environment)
        for name in sorted({*old, *new}):
            left, right = old.get(name), new.get(name)
            if left and right and (left.version, left.sha256) == (right.version, right.sha256):
                continue
            changes.append(
                PackageChange(environment, name, left.version if left else "", right.version if right else "")
            )
    return Difference(
        packages=tuple(changes),
        base=_pair(_base(before), _base(after)),
        python=_pair(before.contents.python, after.contents.python),
        tree=_pair(before.tree, after.tree),
        digest=_pair(before.digest, after.digest),
    )


def _base(image: Inspection) -> str:
    return f"{image.contents.base_name}@{image.contents.base_digest}"


def _pair(before: str, after: str) -> tuple[str, str] | None:
    return None if before == after else (before, after)
