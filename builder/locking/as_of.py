"""The moment as of which requirements are resolved: what was uploaded to the index later is not there for a build."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from builder.locking.pylock import LockError
from builder.repository.git import GitError, git
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from builder.repository.tree import Tree

OF_COMMIT = "commit"


def moment(as_of: str, tree: Tree) -> str:
    """Return the moment (RFC 3339, in UTC) for ``as_of``: ``""`` for none, ``commit`` for the commit's own date.

    A date (``YYYY-MM-DD``) stands for the end of that day. Raises :class:`LockError` for anything else.
    """
    if not as_of:
        return ""
    if as_of == OF_COMMIT:
        return _text(commit_date(tree))
    try:
        day = date.fromisoformat(as_of)
        if day.isoformat() != as_of:
            raise ValueError(as_of)
        return _text(datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1))
    except (ValueError, OverflowError) as error:
        raise LockError(
            f"as_of: {as_of!r} is neither a date (YYYY-MM-DD) nor `{OF_COMMIT}`; give one of them"
        ) from error


def commit_date(tree: Tree) -> datetime:
    """Return the committer date of a tree's commit."""
    try:
        shown = git(tree.git_dir, "show", "-s", "--format=%cI", "--end-of-options", tree.commit.id)
        return datetime.fromisoformat(shown.decode("ascii").strip())
    except (GitError, ValueError) as error:
        raise CasabinderError(f"the date of commit {tree.commit.id[:12]} can't be read; build without as_of") from error


def _text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
