"""Locks a repository's requirements against a base: what stays of the base, what is added, what replaces what.

The user's requirements are resolved *together with* the base's own top-level requirements, and the base's versions
are preferred wherever nothing speaks against them (uv reads them as an earlier lock). So the answer is one consistent
set of packages, with the smallest difference to the base that the requirements allow::

    base                         user asks for        answer                       layered
    numpy 2.5, mplhep 1.3,       mplhep==0.4.1        mplhep 0.4.1 replaces 1.3    mplhep 0.4.1, particle, hepunits
    matplotlib 3.11, ...         particle             particle, hepunits added     (and whiteouts for mplhep 1.3)
                                                      all else from the base

Requirements that the base satisfies as it is need no resolver. A repository that brings a lock is not resolved at all:
its packages are taken as they are, and what of the base can't stay beside them goes (:mod:`builder.locking.check`).
"""

from __future__ import annotations

import posixpath
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from builder.locking.check import check_lock
from builder.locking.closure import Breach, applies, leavers, satisfied
from builder.locking.memory import LockMemory
from builder.locking.pylock import LockedPackage, LockError, lock_sha256
from builder.locking.union import Resolver, Wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from builder.base import Base, InstalledPackage
    from builder.environment.spec import EnvironmentSpec, SourceRequirement, StatedRequirement
    from builder.facility import Facility
    from builder.locking.made_wheels import WheelMaker
    from builder.locking.stated import LockContents
    from builder.target import PythonTarget
    from builder.wheelhouse import Wheelhouse


@dataclass(frozen=True)
class Lock:
    """The packages of the analysis environment and how they differ from the base's.

    ``packages`` is everything, sorted by name; ``added`` and ``replaced`` (old, new) are what gets layers; ``removed``
    are packages of the base whose own requirements the answer breaks, and ``reasons`` say which. ``described`` are
    the added and replacing packages with their metadata, by name.
    """

    packages: tuple[LockedPackage, ...]
    added: tuple[LockedPackage, ...] = ()
    replaced: tuple[tuple[LockedPackage, LockedPackage], ...] = ()
    removed: tuple[LockedPackage, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[Breach, ...] = field(default=(), compare=False, repr=False)
    described: Mapping[str, InstalledPackage] = field(default_factory=dict, compare=False, repr=False)

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
    facility: Facility,
    *,
    maker: WheelMaker | None = None,
    before: str = "",
    fresh: bool = False,
    clock: Callable[[], float] = time.time,
) -> Lock:
    """Lock ``spec`` against ``base``.

    ``maker`` makes wheels of what is stated as source, or has no wheel. ``before`` (RFC 3339) is the moment as of which
    unlocked requirements are resolved. ``fresh`` asks the index even if the answer is remembered.
    Raises :class:`LockError` with the file and line of what can't be satisfied.
    """
    target = base.inventory.target
    if target.python_full not in spec.python:
        raise LockError(
            f"{spec.python_source} asks for Python {spec.python}, and the base {base.inventory.name} has "
            f"{target.python_full}; choose another base with --base (see `casabinder base list`)"
        )
    memory = LockMemory(facility.cache / "locks", clock, fresh)
    made = [(_make(source, maker), source) for source in spec.sources if _source_applies(source, target)]
    if spec.lock is not None:
        return _honoured(spec, base, facility, maker, memory, made)
    wanted = [item for item in spec.requirements if applies(item.requirement, target)]
    narrowed = [item for item in spec.constraints if applies(item.requirement, target)]
    installed = base.inventory.analysis.by_name
    asked = [item.requirement for item in wanted]
    if not made and satisfied([*asked, *(item.requirement for item in narrowed)], asked, installed, target):
        answer = compare([package.locked for package in installed.values()], installed, target)
    else:
        wishes = Wishes(
            wanted,
            narrowed,
            [(package, source.extras, source.source) for package, source in made],
            before,
            wanted[0].source.partition(",")[0] if wanted else spec.file,
        )

        def against(packages: Iterable[LockedPackage]) -> Lock:
            described = _described(packages, base, facility, None)
            inventory = base.inventory
            return compare(packages, installed, target, inventory.protected, inventory.name, described=described)

        def accept(packages: Iterable[LockedPackage]) -> None:
            check_lock(against(packages), spec, base)

        answer = against(Resolver(facility.index, facility.wheelhouse, memory, maker).union(wishes, base, accept))
    _check_hashes(wanted, answer, spec)
    return answer


def compare(
    packages: Iterable[LockedPackage],
    installed: Mapping[str, InstalledPackage],
    target: PythonTarget,
    protected: Iterable[str] = (),
    base_name: str = "",
    *,
    allowed: Mapping[str, frozenset[str]] | None = None,
    described: Mapping[str, InstalledPackage] | None = None,
) -> Lock:
    """Return how a set of packages differs from what the base has.

    A version that the base has is the base's own, unless ``allowed`` (sha256 by name) does not have the base's wheel.
    ``described`` are the packages' metadata, where it is known, by name.
    """
    chosen = {package.name: package for package in packages}
    same = {name for name in chosen.keys() & installed.keys() if _same(chosen[name], installed[name], allowed or {})}
    beside = {
        name: installed[name] if name in same else (described or {}).get(name) or _bare(package)
        for name, package in chosen.items()
    }
    gone = leavers(beside, installed, target)
    kept = {
        name: there.locked
        for name, there in installed.items()
        if name in same or (name not in chosen and name not in gone)
    }
    removed = tuple(installed[name].locked for name in sorted(gone))
    replaced = tuple(
        (installed[name].locked, chosen[name]) for name in sorted(chosen) if name in installed and name not in same
    )
    added = tuple(chosen[name] for name in sorted(chosen) if name not in installed)
    everything = sorted((*kept.values(), *added, *(new for _, new in replaced)))
    guarded = set(protected)
    notes = [
        f"{new.name} {new.version} replaces {old.version} of the base {base_name}, which protects it: "
        "everything that stays fits it"
        for old, new in replaced
        if new.name in guarded
    ]
    notes += [f"{gone[old.name].package.name} of the base {base_name} is removed: {gone[old.name]}" for old in removed]
    return Lock(
        tuple(everything),
        added,
        replaced,
        removed,
        tuple(notes),
        reasons=tuple(gone[name] for name in sorted(gone)),
        described={name: beside[name] for name in sorted(chosen) if name not in same},
    )


def _same(package: LockedPackage, there: InstalledPackage, allowed: Mapping[str, frozenset[str]]) -> bool:
    hashes = allowed.get(package.name)
    return package.version == there.version and (hashes is None or there.sha256 in hashes)


def _bare(package: LockedPackage) -> InstalledPackage:
    from builder.base import InstalledPackage

    return InstalledPackage(
        package.name, package.version, package.filename, package.sha256, url=package.url, size=package.size
    )


def _described(
    packages: Iterable[LockedPackage], base: Base, facility: Facility, allowed: Mapping[str, frozenset[str]] | None
) -> dict[str, InstalledPackage]:
    """Return the metadata of the packages that the base does not have."""
    installed = base.inventory.analysis.by_name
    new = [p for p in packages if p.name not in installed or not _same(p, installed[p.name], allowed or {})]
    if not new:
        return {}
    from builder.locking.wheel_metadata import MetadataShelf

    shelf = MetadataShelf(facility.cache / "metadata", facility.wheelhouse, facility.index.ca_bundle)
    return shelf.describe(new)


def _honoured(
    spec: EnvironmentSpec,
    base: Base,
    facility: Facility,
    maker: WheelMaker | None,
    memory: LockMemory,
    made: Sequence[tuple[LockedPackage, SourceRequirement]],
) -> Lock:
    """Return what a repository's own lock comes to on the base: its packages, and what of the base fits them."""
    inventory = base.inventory
    contents = _contents(spec, base, facility, memory)
    own = [*made, *((_make(source, maker), source) for source in contents.sources)]
    packages = {package.name: package for package in contents.packages} | {package.name: package for package, _ in own}
    unindexed = {package.name for package in inventory.analysis.packages if not package.url}
    for name in sorted(packages.keys() & unindexed):
        raise LockError(
            f"{spec.file}: {name} comes with the base {inventory.name} and can't be replaced; take it out of the lock"
        )
    allowed = {**contents.allowed, **{package.name: frozenset({package.sha256}) for package, _ in own}}
    answer = compare(
        packages.values(),
        inventory.analysis.by_name,
        inventory.target,
        inventory.protected,
        inventory.name,
        allowed=allowed,
        described=_described(packages.values(), base, facility, allowed),
    )
    return replace(answer, notes=(*answer.notes, *check_lock(answer, spec, base)))


def _contents(spec: EnvironmentSpec, base: Base, facility: Facility, memory: LockMemory) -> LockContents:
    from builder.locking.pins import address_pins
    from builder.locking.stated import read_stated_lock

    stated = spec.lock
    assert stated is not None  # noqa: S101  # by construction
    inventory = base.inventory
    if stated.pylock:
        contents = read_stated_lock(stated.pylock, inventory.target, stated.file, inventory.name)
        _check_hosts(contents.packages, stated.file, base, facility)
        return contents
    return address_pins(stated, inventory.target, facility, inventory.name, memory)


def _check_hosts(packages: Iterable[LockedPackage], file: str, base: Base, facility: Facility) -> None:
    """Refuse addresses of the local network, which a repository must not make the builder ask.

    The site's index may be there, and the host of its files, which is where the base's packages come from.
    """
    from builder.repository.addresses import PORTS, checked_addresses
    from builder.repository.spec import RepositoryError

    ours = (facility.index.url or "", *(package.url for package in base.inventory.analysis.packages))
    trusted = {urlsplit(url).netloc for url in ours}
    parts = {(split.scheme, split.netloc): split for split in (urlsplit(package.url) for package in packages)}
    for (scheme, netloc), split in sorted(parts.items()):
        if netloc not in trusted:
            try:
                checked_addresses(split.hostname or "", split.port or PORTS[scheme], facility.fetching)
            except RepositoryError as error:
                raise LockError(f"{file}: {error}") from error


def _source_applies(source: SourceRequirement, target: PythonTarget) -> bool:
    try:
        return not source.marker or Marker(source.marker).evaluate({**target.markers, "extra": ""})
    except InvalidMarker as error:
        raise LockError(f"{source.source}: the marker {source.marker!r} is not understood") from error


def _make(source: SourceRequirement, maker: WheelMaker | None) -> LockedPackage:
    if maker is None:
        what = source.name or posixpath.basename(source.url or source.path) or "the repository's own package"
        raise LockError(
            f"{source.source}: {what} has to be made from source, which needs a container engine; build where Docker "
            "runs, or state a wheel"
        )
    return maker.from_source(source)


def _check_hashes(wanted: Iterable[StatedRequirement], answer: Lock, spec: EnvironmentSpec) -> None:
    by_name = {package.name: package for package in answer.packages}
    for item in wanted:
        package = by_name.get(canonicalize_name(item.requirement.name))
        if item.hashes and package is not None and package.sha256 not in item.hashes:
            raise LockError(
                f"{item.source or spec.file}: none of the hashes given is that of {package.filename}, "
                f"the wheel of {package} for this base; add --hash=sha256:{package.sha256}"
            )
