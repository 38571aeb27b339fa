"""How it stands with a repository's image, in one word, from what the registry and the job store know.

::

    a build of it is queued or running                             building
    the registry has its image   on the base as it is now          built
                                 on a base that was made anew      stale base
    no image                     the last build failed             failed
                                 there is one on an earlier base   stale base
                                 else                              not built
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.record import BaseFacts
    from launcher.jobs.model import State

Standing = Literal["built", "building", "failed", "stale base", "not built"]


def standing(
    latest: State | None, base: BaseFacts | None, earlier: BaseFacts | None, present: Mapping[str, str]
) -> Standing:
    """Return the word.

    ``latest`` is the state of the newest job for just this image, ``base`` the base of the image if it is there,
    ``earlier`` that of another image of the same commit, and ``present`` the digests of today's bases by reference
    (``""``: the registry does not have it).
    """
    if latest in ("queued", "running"):
        return "building"
    if base is not None:
        now = present.get(base.reference)
        return "stale base" if now and now != base.digest else "built"
    if latest == "failed":
        return "failed"
    # Tags of bases follow from their definitions: another reference is another base than today's.
    return "stale base" if earlier is not None and earlier.reference not in present else "not built"
