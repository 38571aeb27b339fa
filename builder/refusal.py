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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.base import Base
    from builder.environment.spec import StatedRequirement

_DEMANDS = re.compile(r"you require (.*?)(?:,? we can conclude|\.\s|\.$|,? and because )")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_UNKNOWN = re.compile(r"(\S+) was not found in the package registry")
_NO_VERSION = re.compile(r"there is no version of|(?:is|are) available and you require")
_NO_WHEEL = re.compile(r"ha(?:s|ve) no (?:usable )?wheels|does not satisfy Python")
_DEPENDENCY = re.compile(r"depends? on (?!Python)")
_LONGEST_PROOF = 400  # characters that a reader takes in


def explain_refusal(proof: str, wanted: Sequence[StatedRequirement], file: str, base: Base) -> str:
    """Return the sentence for ``proof`` (uv's words on one line); ``file`` is named when no line is at fault alone."""
    demanded = _demanded(proof)
    culprits = [item for item in wanted if canonicalize_name(item.requirement.name) in demanded]
    culprits = culprits or [item for item in wanted if canonicalize_name(item.requirement.name) in _names(proof)]
    where = " and ".join(dict.fromkeys(item.source for item in culprits[:3])) or file
    asked = " and ".join(f"`{_plain(item)}`" for item in culprits[:3])
    platform = f"the base {base.inventory.name} (Python {base.inventory.target.python})"
    unknown = _UNKNOWN.search(proof)
    alone = len(culprits) == 1 and not _DEPENDENCY.search(proof)
    if unknown and canonicalize_name(unknown[1]) in {canonicalize_name(item.requirement.name) for item in culprits}:
        return f"{where}: the package index has no package {unknown[1]!r}; check the spelling"
    if alone and _NO_WHEEL.search(proof):
        return f"{where}: {asked} has no wheel for {platform}, and nothing is built from source; choose another version"
    if alone and _NO_VERSION.search(proof):
        return f"{where}: the package index has no version that fits {asked}; choose another version"
    own = {canonicalize_name(Requirement(line).name) for line in base.inventory.analysis.requirements}
    others = sorted((demanded & own) - {canonicalize_name(item.requirement.name) for item in culprits})
    partners = f"{', '.join(others)} of {platform}" if others else platform
    reason = f": {proof.rstrip('.')}" if len(proof) <= _LONGEST_PROOF else ""
    subject = f"{asked} can't be had together with" if asked else "the requirements can't be satisfied together with"
    return f"{where}: {subject} {partners}; change one of the versions{reason}"


def _plain(item: StatedRequirement) -> str:
    return str(item.requirement).partition(";")[0].strip()


def _demanded(proof: str) -> set[str]:
    """Return the canonical names of what "you require" directly, in the last sentences of the proof."""
    return {name for clause in _DEMANDS.findall(f"{proof} ") for name in _names(clause)}


def _names(text: str) -> set[str]:
    return {canonicalize_name(word) for word in _NAME.findall(text)}
