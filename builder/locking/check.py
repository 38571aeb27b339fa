"""Checks that an answer works on its base: what the image can't do without stays whole, what is protected fits.

The image runs a kernel (``ipykernel``) and Dask workers (the base's own runtime package, which no index has); they and
all they need are essential. An answer may replace parts of them as long as every requirement among them holds. A
protected package may be replaced as long as everything in the environment fits the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from builder.locking.closure import PYTHON, breaches, closure_of
from builder.locking.pylock import UnfitError
from builder.locking.refusal import advise, explain_breach

if TYPE_CHECKING:
    from builder.base import Base, InstalledPackage
    from builder.environment.spec import EnvironmentSpec
    from builder.locking.lock import Lock

KERNEL = "ipykernel"
_MOST_NOTES = 5


def check_lock(answer: Lock, spec: EnvironmentSpec, base: Base) -> tuple[str, ...]:
    """Return sentences on what the answer itself leaves open; raise :class:`UnfitError` when it can't be had.

    What was already so in the base is nobody's fault, and is not looked at.
    """
    inventory = base.inventory
    installed = inventory.analysis.by_name
    there = environment(answer, base)
    roots = [KERNEL, *(package.name for package in inventory.analysis.packages if not package.url)]
    essential = closure_of(roots, installed, inventory.target)
    for breach in answer.reasons:
        if breach.package.name in essential:
            raise UnfitError(explain_breach(breach, _root(breach.package.name, essential), spec, base))
    changed = answer.described.keys() | {package.name for package in answer.gone}
    asked = [Requirement(line) for line in inventory.analysis.requirements]
    asked += [item.requirement for item in spec.requirements]
    found = [
        breach
        for breach in breaches(there, inventory.target, asked)
        if breach.package.name in changed or breach.needed in changed
    ]
    essential_now = closure_of(roots, there, inventory.target)
    protected = set(inventory.protected) & {new.name for _, new in answer.replaced}
    notes = []
    for breach in found:
        if breach.package.name in essential_now:
            raise UnfitError(explain_breach(breach, _root(breach.package.name, essential_now), spec, base))
        if breach.needed == PYTHON or breach.needed in protected or spec.lock is None:
            raise UnfitError(explain_breach(breach, "", spec, base))
        notes.append(f"{spec.file} is at odds with itself: {breach}; {advise(spec, breach)}")
    if len(notes) > _MOST_NOTES:
        notes[_MOST_NOTES:] = [f"{spec.file} is at odds with itself in {len(notes) - _MOST_NOTES} more places"]
    return tuple(notes)


def environment(answer: Lock, base: Base) -> dict[str, InstalledPackage]:
    """Return every package of an answer with its metadata, by name."""
    installed = base.inventory.analysis.by_name
    return {package.name: answer.described.get(package.name) or installed[package.name] for package in answer.packages}


def _root(name: str, needed_by: dict[str, str | None]) -> str:
    """Return which essential package needs ``name`` in the end."""
    while (parent := needed_by.get(name)) is not None:
        name = parent
    return name
