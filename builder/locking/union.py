"""Resolves a user's requirements together with a base's own, the base's versions preferred.

Three things turn one question to uv into a few. A package without a wheel is made from its sources, and uv is asked
again with that wheel beside the index. A date hides what was uploaded later, but not from the base: its packages are
what they are, and only those that must change take the versions of that date::

    as of 2023-05-01    base: numpy 2.5, hist 2.10, mplhep 1.3    user: pyhf, hist<2.7
    first               every base package may be newer, but hist, which the user asks in another version:
                        pyhf 0.7.1, hist 2.6.3 (both of the date), mplhep 0.4.1 (newer, since 1.3 wants hist>=2.8)
    again               mplhep has to change, so it is of the date too: mplhep 0.3.26
"""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from builder.locking.closure import admits
from builder.locking.pylock import LockedPackage, LockError, UnfitError, read_pylock, write_pylock
from builder.locking.refusal import explain_refusal
from builder.locking.resolver import PackageIndex, RefusedError, resolve
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from builder.base import Base
    from builder.environment.spec import StatedRequirement
    from builder.locking.made_wheels import WheelMaker
    from builder.locking.memory import LockMemory
    from builder.wheelhouse import Wheelhouse

_MOST_MADE = 10
_MOST_PASSES = 8


@dataclass(frozen=True)
class Wishes:
    """What a user asks for: requirements, constraints, wheels that were made of stated sources (with the extras asked
    of each and where it is stated), and a moment (RFC 3339, or empty)."""

    wanted: Sequence[StatedRequirement]
    narrowed: Sequence[StatedRequirement]
    made: Sequence[tuple[LockedPackage, tuple[str, ...], str]]
    before: str
    file: str


@dataclass(frozen=True)
class Resolver:
    """Where answers come from: the index, the wheels on disk, what makes wheels from source, and what is remembered."""

    index: PackageIndex
    wheelhouse: Wheelhouse
    memory: LockMemory
    maker: WheelMaker | None

    def union(self, wishes: Wishes, base: Base, accept: Callable[[list[LockedPackage]], None]) -> list[LockedPackage]:
        """Return the packages that the wishes and the base's requirements come to.

        ``accept`` raises for an answer that is not to be had; what it took once is remembered and not shown again.
        Raises :class:`LockError` with the lines at fault and what of the base they are at odds with.
        """
        lines = _lines(wishes, base)
        limits = [str(item.requirement) for item in wishes.narrowed]
        question: dict[str, object] = {
            "base": base.digest,
            "requirements": sorted(lines),
            "constraints": sorted(limits),
            "index": self.index.url,
            "made": sorted([*package.identity(), *extras] for package, extras, _ in wishes.made),
            "before": wishes.before,
        }
        remembered = self.memory.recall(question)
        if remembered is not None:
            return remembered
        packages = self._ask(wishes, base, lines, limits)
        accept(packages)
        self.memory.keep(question, packages)
        return packages

    def _ask(self, wishes: Wishes, base: Base, lines: list[str], limits: list[str]) -> list[LockedPackage]:
        made = {package.name: package for package, _, _ in wishes.made}
        self.wheelhouse.fetch(made.values())
        direct = [
            f"{package.name}{_extras(extras)} @ {self.wheelhouse.path(package).absolute().as_uri()}"
            for package, extras, _ in wishes.made
        ]
        own = [package.locked for package in base.inventory.analysis.packages if package.url]
        versions = {package.name: package.version for package in own}
        newer = _may_be_newer(wishes, versions) if wishes.before else set()
        user, asked = _text([*lines, *direct]), base.inventory.analysis.requirements
        preferences = write_pylock(own, base.inventory.target) if own else ""
        with ExitStack() as stack:
            links = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="casabinder-links-")))

            def answer(requirements: Sequence[str]) -> str:
                return resolve(
                    [("user.in", user), ("base.in", _text(requirements))],
                    base.inventory.target,
                    self.index,
                    constraints=_text(limits),
                    preferences=preferences,
                    links=links,
                    before=wishes.before,
                    undating=sorted(newer),
                )

            for _ in range(_MOST_MADE + _MOST_PASSES):
                try:
                    text = _first_answer(answer, [_not_older(asked, base), _without_optional(asked, base)])
                except RefusedError as refused:
                    if not self._make(refused, made, wishes, base, links):
                        raise _explained(refused, wishes, base) from refused
                    continue
                packages = read_pylock(text, base.inventory.target, wishes.file or "the answer", made=made)
                changed = {p.name for p in packages if p.name in newer and p.version != versions[p.name]}
                if not changed:
                    return packages
                newer -= changed
        raise LockError(
            f"{wishes.file}: more than {_MOST_MADE} packages have no wheel for the base {base.inventory.name}; "
            "lock the repository, or choose another base"
        )

    def _make(
        self, refused: RefusedError, made: dict[str, LockedPackage], wishes: Wishes, base: Base, links: Path
    ) -> bool:
        """Make what uv finds no wheel of; return whether there is something new to resolve with."""
        missing = [name for name in map(canonicalize_name, refused.without_wheel) if name not in made]
        if not missing or self.maker is None:
            return False
        for name in missing:
            requirement = _requirement(name, str(refused), wishes.wanted)
            lines = [item.source for item in wishes.wanted if canonicalize_name(item.requirement.name) == name]
            try:
                package = self.maker.from_index(requirement)
            except CasabinderError as error:
                where = lines[0] if lines else wishes.file
                raise LockError(
                    f"{where}: {requirement} has no wheel for the base {base.inventory.name} (Python "
                    f"{base.inventory.target.python}) and can't be made from source: {error}"
                ) from error
            made[package.name] = package
            self.wheelhouse.fetch([package])
            (links / package.filename).symlink_to(self.wheelhouse.path(package).absolute())
        return True


def _lines(wishes: Wishes, base: Base) -> list[str]:
    """Return the user's requirements, without those for packages that the base alone has."""
    analysis = base.inventory.analysis
    unindexed = {package.name for package in analysis.packages if not package.url}
    for package, _, where in wishes.made:
        if package.name in unindexed:
            raise LockError(
                f"{where}: {package.name} comes with the base {base.inventory.name} and can't be replaced; remove it"
            )
    lines = []
    for item in wishes.wanted:
        name = canonicalize_name(item.requirement.name)
        if name not in unindexed:
            lines.append(str(item.requirement))
        elif not admits(item.requirement, analysis.by_name[name].version):
            raise LockError(
                f"{item.source}: {name} comes with the base {base.inventory.name}, which has "
                f"{analysis.by_name[name].version}, and can't be replaced by `{item.requirement}`; remove the line"
            )
    return lines


def _first_answer(answer: Callable[[Sequence[str]], str], questions: Sequence[Sequence[str]]) -> str:
    """Return the first of the answers that is not a refusal, else raise the last question's."""
    *others, last = questions
    for question in others:
        if question != last:
            with suppress(RefusedError):
                return answer(question)
    return answer(last)


def _not_older(requirements: Sequence[str], base: Base) -> tuple[str, ...]:
    """Return the base's requirements such that what is optional does not become older than it is."""
    there, lines = base.inventory.analysis.by_name, []
    for line in requirements:
        requirement = Requirement(line)
        package = there.get(canonicalize_name(requirement.name))
        if package is not None and package.name in base.inventory.optional:
            requirement.specifier &= SpecifierSet(f">={package.version}")
            line = str(requirement)
        lines.append(line)
    return tuple(lines)


def _without_optional(requirements: Sequence[str], base: Base) -> tuple[str, ...]:
    """Return the base's requirements without those that give way to a repository's."""
    optional = set(base.inventory.optional)
    return tuple(line for line in requirements if canonicalize_name(Requirement(line).name) not in optional)


def _may_be_newer(wishes: Wishes, versions: dict[str, str]) -> set[str]:
    """Return the packages of the base that no date concerns: all that the user does not ask in another version."""
    refused = {
        name
        for item in (*wishes.wanted, *wishes.narrowed)
        if (name := canonicalize_name(item.requirement.name)) in versions
        and not admits(item.requirement, versions[name])
    }
    return versions.keys() - refused


def _requirement(name: str, proof: str, wanted: Iterable[StatedRequirement]) -> Requirement:
    """Return what is asked of a package without a wheel: by the user, else by what depends on it, as uv says it."""
    for item in wanted:
        if canonicalize_name(item.requirement.name) == name:
            return Requirement(f"{name}{item.requirement.specifier}")
    found = re.search(rf"depends on {re.escape(name)}((?:[<>=!~]=?[^\s,]+,?)*)", proof)
    try:
        return Requirement(f"{name}{found[1].rstrip(',.') if found else ''}")
    except InvalidRequirement:
        return Requirement(name)


def _explained(refused: RefusedError, wishes: Wishes, base: Base) -> LockError:
    if refused.undated:
        return LockError(
            f"as_of: the package index does not say when {refused.undated} was uploaded, so nothing can be resolved as "
            "of a date; build without as_of, or set the site's package_index to one that serves upload times (PEP 700)"
        )
    stated = [*wishes.wanted, *wishes.narrowed]
    made = {package.name: where for package, _, where in wishes.made}
    return UnfitError(explain_refusal(str(refused), stated, wishes.file, base, made=made, before=wishes.before))


def _extras(extras: Iterable[str]) -> str:
    listed = ",".join(sorted(extras))
    return f"[{listed}]" if listed else ""


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
