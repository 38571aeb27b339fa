"""What an image gets of packages, and why: three lists (from the base, added, replacing the base's) and what goes.

Each package has the chain of requirements that brings it, from the line that was written down to itself::

    added  pyhf 0.7.6  0.2 MB  requirements.txt, line 3 -> cabinetry -> pyhf

The report is made before work starts (``casabinder build --dry-run`` stops there) and is stored with the image.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.locking.check import environment
from builder.locking.closure import applies, needs
from builder.sizes import readable
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.base import Base, InstalledPackage
    from builder.environment.spec import EnvironmentSpec
    from builder.locking.lock import Lock
    from builder.target import PythonTarget

REPORT_TYPE = "application/vnd.casabinder.report.v1+json"
_ARROW = " -> "
_Root = tuple[str, str, frozenset[str]]  # who asks, for what, with which extras


@dataclass(frozen=True)
class ReportEntry:
    """One package: ``version`` in the image (``""``: gone), ``base_version`` in the base (``""``: it has none), bytes
    of its wheel (0: not known), the chain from the line that asks for it to itself, and why it goes (``reason``)."""

    name: str
    version: str
    base_version: str = ""
    bytes: int = 0
    chain: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class LockReport:
    """The packages of an image against its base. ``file`` decides the environment; every list is sorted by name."""

    base: str
    base_digest: str
    python: str
    file: str
    from_base: tuple[ReportEntry, ...]
    added: tuple[ReportEntry, ...]
    replaced: tuple[ReportEntry, ...]
    removed: tuple[ReportEntry, ...]
    notes: tuple[str, ...] = ()
    as_of: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the report as the JSON object that is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LockReport:
        """Read a stored report; raise :class:`CasabinderError` when it is not one."""
        try:
            lists = {
                key: tuple(ReportEntry(**{**entry, "chain": tuple(entry["chain"])}) for entry in document[key])
                for key in ("from_base", "added", "replaced", "removed")
            }
            return cls(**{**document, **lists, "notes": tuple(document["notes"])})
        except (KeyError, TypeError) as error:
            raise CasabinderError(f"the report of the image is not usable: {error}") from error

    def to_text(self) -> str:
        """Return the report as people read it; what comes from the base is named only where somebody asked for it."""
        size = sum(entry.bytes for entry in self.from_base)
        asked = [entry for entry in self.from_base if len(entry.chain) == 2 and entry.chain[0] != self._own]
        lines = [f"from the base {self.base} (Python {self.python}): {len(self.from_base)} packages, {_size(size)}"]
        lines += [f"  {entry.name} {entry.version}  {_ARROW.join(entry.chain)}" for entry in asked]
        for title, entries in (("added", self.added), ("replacing the base's", self.replaced)):
            count = f"{len(entries)} packages, {_size(sum(entry.bytes for entry in entries))}" if entries else "nothing"
            lines.append(f"{title}: {count}")
            for entry in entries:
                old = f" (base: {entry.base_version})" if entry.base_version else ""
                lines.append(
                    f"  {entry.name} {entry.version}{old}  {_size(entry.bytes)}  {_ARROW.join(entry.chain)}".rstrip()
                )
        if self.removed:
            lines.append(f"removed of the base: {len(self.removed)} packages")
            lines += [f"  {entry.name} {entry.base_version}  {entry.reason}" for entry in self.removed]
        if self.as_of:
            lines.append(f"added and replacing packages are of the index as it was before {self.as_of}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    @property
    def _own(self) -> str:
        return own_root(self.base)


def own_root(base_name: str) -> str:
    """Return how a chain begins that the base's own requirements bring."""
    return f"the base {base_name}"


def make_report(spec: EnvironmentSpec, lock: Lock, base: Base, before: str = "") -> LockReport:
    """Return the report of a lock. Asks nobody: the metadata of what is new came with the lock."""
    inventory = base.inventory
    installed = inventory.analysis.by_name
    chains = _chains(spec, environment(lock, base), base)
    new = {package.name for package in lock.layered}

    def entry(name: str, version: str, size: int, old: str = "") -> ReportEntry:
        return ReportEntry(name, version, old, size, chains.get(name, ()))

    return LockReport(
        base=inventory.name,
        base_digest=base.digest,
        python=inventory.target.python_full,
        file=spec.file,
        from_base=tuple(
            entry(p.name, p.version, p.size, installed[p.name].version) for p in lock.packages if p.name not in new
        ),
        added=tuple(entry(p.name, p.version, p.size) for p in lock.added),
        replaced=tuple(entry(p.name, p.version, p.size, old.version) for old, p in lock.replaced),
        removed=tuple(
            ReportEntry(old.name, "", old.version, 0, (), str(reason))
            for old, reason in zip(lock.removed, lock.reasons or ("",) * len(lock.removed), strict=True)
        ),
        notes=lock.notes,
        as_of=before,
    )


def _chains(spec: EnvironmentSpec, packages: Mapping[str, InstalledPackage], base: Base) -> dict[str, tuple[str, ...]]:
    """Return the shortest chain to every package: from the user's lines first, then from the base's requirements."""
    inventory = base.inventory
    target = inventory.target
    found: dict[str, tuple[str, ...]] = {}
    stated = [(item.source, item.requirement) for item in spec.requirements if applies(item.requirement, target)]
    roots: list[_Root] = [(source, canonicalize_name(item.name), frozenset(item.extras)) for source, item in stated]
    roots += [(source.source, source.name, frozenset(source.extras)) for source in spec.sources if source.name]
    _spread(roots, packages, found, target)
    if spec.lock is not None:
        needed = {canonicalize_name(item.name) for package in packages.values() for item in needs(package, target)}
        new = packages.keys() - inventory.analysis.by_name.keys()
        for tops in (new - needed, new):  # a cycle has no top
            _spread([(spec.lock.file, name, frozenset[str]()) for name in sorted(tops)], packages, found, target)
    own = own_root(inventory.name)
    asked = [Requirement(line) for line in inventory.analysis.requirements]
    roots = [(own, canonicalize_name(item.name), frozenset(item.extras)) for item in asked]
    roots += [(own, package.name, frozenset()) for package in inventory.analysis.packages if not package.url]
    _spread(roots, packages, found, target)
    return found


def _spread(
    roots: Iterable[_Root],
    packages: Mapping[str, InstalledPackage],
    found: dict[str, tuple[str, ...]],
    target: PythonTarget,
) -> None:
    """Follow the requirements of ``roots`` breadth first and note the chain to every package not found before."""
    pending: list[tuple[tuple[str, ...], frozenset[str]]] = [
        ((source, name), extras) for source, name, extras in roots if name in packages
    ]
    seen: set[tuple[str, frozenset[str]]] = set()
    for chain, extras in pending:  # it grows while it is walked
        name = chain[-1]
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.setdefault(name, chain)
        for item in needs(packages[name], target, extras):
            needed = canonicalize_name(item.name)
            if needed in packages and needed not in chain:
                pending.append(((*chain, needed), frozenset(item.extras)))


def _size(count: int) -> str:
    return readable(count) if count else "size unknown"
