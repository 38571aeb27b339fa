"""What a user asked to build, and the commit that it turned out to be.

A repository is named by one text: a git URL or path, or ``<provider>:<identifier>`` for a record of an archive
(``zenodo:10.5281/zenodo.3242074``). That text is what records and provenance hold, and what builds it again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from builder.providers.deposit import Deposit

ARCHIVES = ("zenodo", "figshare", "dataverse", "hydroshare", "ckan")
"""The providers whose repositories are records of files and not git repositories."""
COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
SCP_LIKE = re.compile(r"(?P<user>[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^/:][^:]*)")


class RepositoryError(CasabinderError):
    """A repository, a ref or a tree in it that can't be had."""


class NotAllowedError(RepositoryError):
    """A repository that the site does not fetch, whether it exists or not."""


class UnreachableError(RepositoryError):
    """A host that does not answer: whether it has the repository is not known."""


@dataclass(frozen=True)
class RepoSpec:
    """What a user asked for: a git URL, a path or a record, a ref, and a directory where environment files are."""

    url: str
    ref: str = "HEAD"
    subdirectory: str = ""

    def __post_init__(self) -> None:
        if self.url.startswith("-") or self.ref.startswith("-"):
            raise RepositoryError(
                f"{(self.url if self.url.startswith('-') else self.ref)!r} is neither a URL nor a ref"
            )
        if "://" in self.url:
            try:
                _ = urlsplit(self.url).port
            except ValueError as error:
                raise RepositoryError(f"{self.url!r} is not a URL: {error}") from error
        parts = self.subdirectory.split("/") if self.subdirectory else []
        if any(part in ("", ".", "..", ".git") for part in parts) or self.subdirectory.startswith("/"):
            raise RepositoryError(f"--subdir {self.subdirectory!r} must be a plain path below the repository's root")

    @property
    def archive(self) -> str:
        """The provider's prefix for a record of files, ``""`` for a git repository."""
        prefix, separator, _ = self.url.partition(":")
        return prefix if separator and prefix in ARCHIVES else ""

    @property
    def is_local(self) -> bool:
        """Whether the repository is a directory of this machine."""
        return not self.archive and "://" not in self.url and not SCP_LIKE.fullmatch(self.url)

    @property
    def location(self) -> str:
        """What git is told: the URL, or the absolute path of a local repository."""
        return str(Path(self.url).expanduser().resolve()) if self.is_local else self.url

    @property
    def public_url(self) -> str:
        """The URL without user name and password, for records and messages."""
        if self.archive or self.is_local or "://" not in self.url:
            return self.location
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2].rpartition("]")[0] + "]" if "[" in parts.netloc else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return parts._replace(netloc=host + port).geturl()

    @property
    def slug(self) -> str:
        """A short name for the image: what people would call the repository, and 6 hex digits of its address."""
        path = re.sub(r"\.git/?$", "", self.public_url.rstrip("/"))
        names = [name for name in re.split(r"[/:]", path) if name][-(1 if self.is_local else 2) :]
        plain = re.sub(r"[^a-z0-9]+", "-", "-".join(names).lower()).strip("-")[:80] or "repository"
        return f"{plain}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Commit:
    """A commit that exists: ``id`` is its full id, ``ref`` the full name it was found by (or the id again).

    A record has no commits: its ``id`` is 40 hex digits over what it holds, and ``deposit`` is that.
    """

    spec: RepoSpec
    id: str
    ref: str
    deposit: Deposit | None = None
