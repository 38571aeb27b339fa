"""Finds the last build of a branch before a commit, and what has changed since, from what is in the registry.

The earlier commits of the branch are tried from the newest on, as far as the checkout has them: one HEAD request each
for their alias tag. Nothing is remembered anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.attachments.difference import compare_images
from builder.attachments.inspection import inspect
from builder.attachments.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.attachments.difference import Difference
    from builder.attachments.inspection import Inspection
    from registry_sync.store import Store

MOST_COMMITS = 50


@dataclass(frozen=True)
class Change:
    """What differs from the image of an earlier ``commit``."""

    commit: str
    digest: str
    difference: Difference


def change_since(
    commits: Sequence[str],
    alias_of: Callable[[str], str],
    store: Store,
    repository: str,
    after: Inspection,
    cache: Path,
) -> Change | None:
    """Return the change since the first of ``commits`` (newest first) that was built; ``None`` if none was.

    Raises :class:`~registry_sync.errors.CasabinderError` when the registry can't be asked, or the image can't be read.
    """
    for commit in commits:
        found = store.head_manifest(repository, alias_of(commit))
        if found is not None:
            manifest = store.get_manifest(repository, found.digest)
            before = inspect(Location(store, after.name.partition("/")[0], repository, manifest), cache)
            return Change(commit, found.digest, compare_images(before, after))
    return None
