"""Locks a repository's requirements against a base: what stays of the base, what is added, what replaces what.

The user's requirements are resolved *together with* the base's own top-level requirements, and the base's versions
are preferred wherever nothing speaks against them (uv reads them as an earlier lock). So the answer is one consistent
set of packages, with the smallest difference to the base that the requirements allow::

    base                         user asks for        answer                       layered
    numpy 2.5, mplhep 1.3,       mplhep==0.4.1        mplhep 0.4.1 replaces 1.3    mplhep 0.4.1, particle, hepunits
    matplotlib 3.11, ...         particle             particle, hepunits added     (and whiteouts for mplhep 1.3)
                                                      all else from the base

Two short cuts: requirements that the base satisfies as it is need no resolver, and an answer is remembered by its
question (for a day, since the index moves on).
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from builder.pylock import LockedPackage, LockError, lock_sha256, read_pylock, write_pylock
from builder.refusal import explain_refusal
from builder.resolver import PackageIndex, resolve
from registry_sync.files import write_atomically
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.base import Base, InstalledPackage
    from builder.environment.spec import EnvironmentSpec, StatedRequirement
    from builder.target import PythonTarget
    from builder.wheelhouse import Wheelhouse

_REMEMBERED_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Lock:
    """The packages of the analysis environment and how they differ from the base's.

    ``packages`` is everything, sorted by name; ``added`` and ``replaced`` (old, new) are what gets layers; ``removed``
    are packages of the base that nothing needs any more and whose own requirements the answer breaks.
    """

    packages: tuple[LockedPackage, ...]
    added: tuple[LockedPackage, ...] = ()
    replaced: tuple[tuple[LockedPackage, LockedPackage], ...] = ()
    removed: tuple[LockedPackage, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The lock's identity: 64 hex digits over the packages."""
        return lock_sha256(self.packages)

    @property
    def layered(self) -> tuple[LockedPackage, ...]:
        """The packages that the base does not have: added and replacing ones."""
        return tuple(sorted((*self.added, *(new for _, new in self.replaced))))

    @property
    def gone(self) -> tuple[LockedPackage, ...]:
        """The packages of the base that are not to be seen in the image."""
        return tuple(sorted((*self.removed, *(old for old, _ in self.replaced))))

    def sized(self, wheelhouse: Wheelhouse) -> Lock:
        """Return the lock with the sizes of the wheels that get layers, which their grouping depends on."""
        sized = {package.sha256: package for package in wheelhouse.sized(self.layered)}
        return replace(
            self,
            packages=tuple(sized.get(package.sha256, package) for package in self.packages),
            added=tuple(sized[package.sha256] for package in self.added),
            replaced=tuple((old, sized[new.sha256]) for old, new in self.replaced),
        )

    def report(self) -> dict[str, int]:
        """Return the counts of the record: ``from_base``, ``added``, ``replaced``."""
        kept = len(self.packages) - len(self.added) - len(self.replaced)
        return {"from_base": kept, "added": len(self.added), "replaced": len(self.replaced)}


def lock(
    spec: EnvironmentSpec,
    base: Base,
    index: PackageIndex,
    cache: Path,
    *,
    fresh: bool = False,
    clock: Callable[[], float] = time.time,
) -> Lock:
    """Lock ``spec`` against ``base``. ``fresh`` asks the index even if the answer is remembered.

    Raises :class:`LockError` with the file and line of what can't be satisfied.
    """
    target = base.inventory.target
    if target.python_full not in spec.python:
        raise LockError(
            f"{spec.python_source} asks for Python {spec.python}, and the base {base.inventory.name} has "
            f"{target.python_full}; choose another base with --base (see `casabinder base list`)"
        )
    wanted = [item for item in spec.requirements if _applies(item.requirement, target)]
    narrowed = [item for item in spec.constraints if _applies(item.requirement, target)]
    installed = base.inventory.analysis.by_name
    if _satisfied([*wanted, *narrowed], wanted, installed, target):
        packages = [package.locked for package in installed.values()]
    else:
        text = _resolved(wanted, narrowed, base, index, cache, fresh=fresh, clock=clock)
        packages = read_pylock(text, target, spec.file)
    answer = compare(packages, installed, target, base.inventory.protected, base.inventory.name)
    _check_hashes(wanted, answer, spec)
    return answer


def compare(
    packages: Iterable[LockedPackage],
    installed: Mapping[str, InstalledPackage],
    target: PythonTarget,
    protected: Iterable[str] = (),
    base_name: str = "",
) -> Lock:
    """Return how a set of packages differs from what the base has. A version that the base has is the base's own."""
    chosen = {package.name: package for package in packages}
    kept = {
        name: there.locked
        for name, there in installed.items()
        if name not in chosen or chosen[name].version == there.version
    }
    removed = tuple(kept.pop(name) for name in _broken(chosen, installed, target))
    replaced = tuple(
        (installed[name].locked, chosen[name])
        for name in sorted(chosen)
        if name in installed and chosen[name].version != installed[name].version
    )
    added = tuple(chosen[name] for name in sorted(chosen) if name not in installed)
    everything = sorted((*kept.values(), *added, *(new for _, new in replaced)))
    guarded = set(protected)
    notes = tuple(
        f"{new.name} {new.version} replaces {old.version} of the base {base_name}, which protects it: "
        "everything that depends on it was resolved again"
        for old, new in replaced
        if new.name in guarded
    )
    return Lock(tuple(everything), added, replaced, removed, notes)


def _applies(requirement: Requirement, target: PythonTarget, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**target.markers, "extra": extra})


def _satisfied(
    stated: Iterable[StatedRequirement],
    wanted: Iterable[StatedRequirement],
    installed: Mapping[str, InstalledPackage],
    target: PythonTarget,
) -> bool:
    """Whether the base as it is fulfils every requirement, extras included."""
    for item in stated:
        there = installed.get(canonicalize_name(item.requirement.name))
        if there is not None and not item.requirement.specifier.contains(there.version, prereleases=True):
            return False
    pending = [(canonicalize_name(item.requirement.name), frozenset(item.requirement.extras)) for item in wanted]
    seen = set()
    while pending:
        name, extras = pending.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        there = installed.get(name)
        if there is None:
            return False
        for requirement in _requires(there) if extras else ():
            if not any(_applies(requirement, target, extra) for extra in extras):
                continue
            needed = canonicalize_name(requirement.name)
            if needed not in installed or not requirement.specifier.contains(
                installed[needed].version, prereleases=True
            ):
                return False
            pending.append((needed, frozenset(requirement.extras)))
    return True


def _broken(
    chosen: Mapping[str, LockedPackage], installed: Mapping[str, InstalledPackage], target: PythonTarget
) -> list[str]:
    """Return the packages of the base that nobody chose and that can't stay, nor those that depend on them."""
    versions = {name: there.version for name, there in installed.items()}
    versions |= {name: package.version for name, package in chosen.items()}
    broken: list[str] = []
    while found := [
        name for name in sorted(versions.keys() - chosen.keys()) if not _consistent(installed[name], versions, target)
    ]:
        broken += found
        for name in found:
            del versions[name]
    return sorted(broken)


def _consistent(package: InstalledPackage, versions: Mapping[str, str], target: PythonTarget) -> bool:
    """Whether an installed package's own requirements hold among ``versions``."""
    for requirement in _requires(package):
        version = versions.get(canonicalize_name(requirement.name))
        if _applies(requirement, target) and (
            version is None or not requirement.specifier.contains(version, prereleases=True)
        ):
            return False
    return True


def _requires(package: InstalledPackage) -> Iterator[Requirement]:
    for line in package.requires:
        with suppress(InvalidRequirement):  # an old package's malformed line binds nobody, and pip skips it too
            yield Requirement(line)


def _resolved(
    wanted: list[StatedRequirement],
    narrowed: list[StatedRequirement],
    base: Base,
    index: PackageIndex,
    cache: Path,
    *,
    fresh: bool,
    clock: Callable[[], float],
) -> str:
    analysis = base.inventory.analysis
    unindexed = {package.name for package in analysis.packages if not package.url}
    lines = []
    for item in wanted:
        name = canonicalize_name(item.requirement.name)
        if name not in unindexed:
            lines.append(str(item.requirement))
        elif not item.requirement.specifier.contains(analysis.by_name[name].version, prereleases=True):
            raise LockError(
                f"{item.source}: {name} comes with the base {base.inventory.name}, which has "
                f"{analysis.by_name[name].version}, and can't be replaced by `{item.requirement}`; remove the line"
            )
    limits = [str(item.requirement) for item in narrowed]
    question: dict[str, Any] = {"base": base.digest, "requirements": sorted(lines), "constraints": sorted(limits)}
    question["index"] = index.url
    remembered = cache / "locks" / (sha256_digest(canonical_json(question))[7:] + ".json")
    if not fresh:
        try:
            document = json.loads(remembered.read_bytes())
            if 0 <= clock() - float(document["time"]) < _REMEMBERED_SECONDS:
                return str(document["pylock"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
    own = [package.locked for package in analysis.packages if package.url]
    file = wanted[0].source.partition(",")[0] if wanted else "requirements.txt"
    try:
        text = resolve(
            [("user.in", _text(lines)), ("base.in", _text(analysis.requirements))],
            base.inventory.target,
            index,
            constraints=_text(limits),
            preferences=write_pylock(own, base.inventory.target),
        )
    except LockError as error:
        raise LockError(explain_refusal(str(error), [*wanted, *narrowed], file, base)) from error
    write_atomically(remembered, canonical_json({"time": clock(), "pylock": text}))
    return text


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _check_hashes(wanted: Iterable[StatedRequirement], answer: Lock, spec: EnvironmentSpec) -> None:
    by_name = {package.name: package for package in answer.packages}
    for item in wanted:
        package = by_name.get(canonicalize_name(item.requirement.name))
        if item.hashes and package is not None and package.sha256 not in item.hashes:
            raise LockError(
                f"{item.source or spec.file}: none of the hashes given is that of {package.filename}, "
                f"the wheel of {package} for this base; add --hash=sha256:{package.sha256}"
            )
