"""Puts a resolver's refusal into one sentence: which line of the user's file, what is wrong with it, what to do.

uv proves that there is no answer, step by step, and does not know that half of the requirements are the base's. The
proof of ``awkward<2`` against a base with dask-awkward has 31 sentences, of which only the end concerns the user::

    ... And because you require awkward<2 and dask-awkward, we can conclude that your requirements are unsatisfiable.

So what "you require" is looked up among the user's lines and the base's requirements. The proof itself stays in the
cause of the error. Nothing but the wording of a message depends on uv's words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.locking.closure import PYTHON

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.base import Base
    from builder.environment.spec import EnvironmentSpec, StatedRequirement
    from builder.locking.closure import Breach

_DEMANDS = re.compile(r"you require (.*?)(?:,? we can conclude|\.\s|\.$|,? and because )")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_UNKNOWN = re.compile(r"(\S+) was not found in the package registry")
_NO_VERSION = re.compile(r"there is no version of|(?:is|are) available and you require")
_NO_WHEEL = re.compile(r"ha(?:s|ve) no (?:usable )?wheels|does not satisfy Python")
_DEPENDENCY = re.compile(r"depends? on (?!Python)")
_UPGRADES = {
    "uv": "uv lock --upgrade-package {}",
    "poetry": "poetry update {}",
    "pdm": "pdm update {}",
    "pipfile": "pipenv upgrade {}",
}
_LONGEST_PROOF = 400  # characters that a reader takes in


def explain_refusal(
    proof: str,
    wanted: Sequence[StatedRequirement],
    file: str,
    base: Base,
    *,
    made: Mapping[str, str] | None = None,
    before: str = "",
) -> str:
    """Return the sentence for ``proof`` (uv's words on one line); ``file`` is named when no line is at fault alone.

    ``made`` are packages that were made from source, with the line that states each; ``before`` is the moment as of
    which the index was asked.
    """
    demanded = _demanded(proof)
    culprits = [item for item in wanted if canonicalize_name(item.requirement.name) in demanded]
    if not culprits and not demanded & (made or {}).keys():
        culprits = [item for item in wanted if canonicalize_name(item.requirement.name) in _names(proof)]
    stated = [(item.source, _plain(item)) for item in culprits]
    stated += [(where, name) for name, where in sorted((made or {}).items()) if name in demanded]
    where = " and ".join(dict.fromkeys(source for source, _ in stated[:3])) or file
    asked = " and ".join(f"`{text}`" for _, text in stated[:3])
    platform = f"the base {base.inventory.name} (Python {base.inventory.target.python})"
    then = f" as of {before[:10]}" if before else ""
    unknown = _UNKNOWN.search(proof)
    alone = len(stated) == 1 and not _DEPENDENCY.search(proof)
    names = {canonicalize_name(item.requirement.name) for item in culprits}
    if unknown and canonicalize_name(unknown[1]) in names:
        return f"{where}: the package index has no package {unknown[1]!r}{then}; check the spelling"
    if alone and _NO_WHEEL.search(proof):
        return (
            f"{where}: {asked} has no wheel for {platform}{then}, and can't be made from source here; choose another "
            "version, or another base with --base"
        )
    if alone and _NO_VERSION.search(proof):
        return f"{where}: the package index has no version that fits {asked}{then}; choose another version"
    own = {canonicalize_name(Requirement(line).name) for line in base.inventory.analysis.requirements}
    others = sorted((demanded & own) - names)
    partners = f"{', '.join(others)} of {platform}" if others else platform
    subject = f"{asked} can't be had together with" if asked else "the requirements can't be satisfied together with"
    reason = proof.rstrip(".") if len(proof) <= _LONGEST_PROOF else _core(proof, [*names, *others])
    advice = f"loosen {asked}" if asked else "loosen them"
    advice += ", or choose another base with --base" if others or not asked else ""
    return f"{where}: {subject} {partners}{then}; {advice}" + (f": {reason}" if reason else "")


def explain_breach(breach: Breach, root: str, spec: EnvironmentSpec, base: Base) -> str:
    """Return the sentence for an answer that can't be had since a requirement in it does not hold.

    ``root`` is what of the base, and of every image, needs the package that is broken; empty when nothing does.
    """
    name = base.inventory.name
    installed = base.inventory.analysis.by_name
    package, needed = breach.package, breach.needed
    where = next(
        (
            item.source
            for item in spec.requirements
            if canonicalize_name(item.requirement.name) in (needed, package.name)
        ),
        spec.lock.file if spec.lock else spec.file,
    )
    ours = installed.get(package.name)
    side = f"of the base {name}" if ours and ours.sha256 == package.sha256 else f"of {spec.file or 'the repository'}"
    if needed == PYTHON:
        return (
            f"{where}: {package.name} {package.version} is for Python {breach.requirement}, and the base {name} has "
            f"{base.inventory.target.python_full}; choose another version of it, or another base with --base"
        )
    theirs = installed.get(needed)
    origin = f"the base {name}" if theirs and theirs.version == breach.found else (spec.file or "the repository")
    found = f"{origin} has {needed} {breach.found}" if breach.found else f"{origin} has no {needed}"
    why = ""
    if root:
        needing = f"{package.name} is needed by {root}" if root != package.name else f"{package.name} is needed"
        why = f", and {needing}, which no image can do without"
    return (
        f"{where}: {package.name} {package.version} {side} requires {breach.requirement}, but {found}{why}; "
        f"{advise(spec, breach)}"
    )


def advise(spec: EnvironmentSpec, breach: Breach) -> str:
    """Return what to try against a breach, in the words of the tool that wrote the lock."""
    name = breach.package.name if breach.needed == PYTHON else breach.needed
    if spec.lock is None:
        return f"loosen the version of {name}, or choose another base with --base"
    command = _UPGRADES.get(spec.kind)
    again = f"try `{command.format(name)}`" if command else f"lock {name} again in a version that fits"
    return f"{again}, loosen what is stated of {name}, or choose another base with --base"


def _core(proof: str, names: Iterable[str]) -> str:
    """Return the one step of a long proof that a reader needs: who depends on a package at fault."""
    for name in names:
        found = re.findall(rf"(\S+) depends on ({re.escape(name)}[<>=!~]\S*)", proof)
        if found:  # the last is of the newest version
            return f"{found[-1][0]} depends on {found[-1][1].rstrip(',.')}"
    return ""


def _plain(item: StatedRequirement) -> str:
    return str(item.requirement).partition(";")[0].strip()


def _demanded(proof: str) -> set[str]:
    """Return the canonical names of what "you require" directly, in the last sentences of the proof."""
    return {name for clause in _DEMANDS.findall(f"{proof} ") for name in _names(clause)}


def _names(text: str) -> set[str]:
    return {canonicalize_name(word) for word in _NAME.findall(text)}
