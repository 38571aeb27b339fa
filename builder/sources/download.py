"""Fetches pages of the index and archives, by the rules for fetching repositories (builder/repository/web.py)."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from builder.bounded import bound_files, files_below, used_now
from builder.repository.web import Expected, download, web_client
from builder.sources.errors import SourceBuildError
from builder.sources.shelf import file_sha256
from registry_sync.files import disk_error

if TYPE_CHECKING:
    from builder.repository.fetching import Fetching

MOST_ARCHIVE = 512 * 2**20
MOST_PAGE = 64 * 2**20
_CHUNK = 2**20


@dataclass(frozen=True)
class Downloader:
    """Fetches into the directory ``cache`` what ``fetching`` allows."""

    cache: Path
    fetching: Fetching

    @property
    def trusting(self) -> Downloader:
        """The same for addresses that the site itself names: its package index may be in the local network."""
        return replace(self, fetching=replace(self.fetching, private_addresses=True))

    def page(self, url: str, accept: str) -> tuple[bytes, str, str] | None:
        """Return a page's bytes, content type and final address; ``None`` if there is no such page."""
        with web_client(self.fetching) as client, client.stream("GET", url, headers={"Accept": accept}) as answer:
            if answer.status_code == 404:
                return None
            if not answer.is_success:
                raise SourceBuildError(f"{public(url)} could not be read: it answers {answer.status_code}")
            body = bytearray()
            for chunk in answer.iter_bytes(_CHUNK):
                body += chunk
                if len(body) > MOST_PAGE:
                    raise SourceBuildError(f"{public(url)} answers with more than {MOST_PAGE // 2**20} MiB")
            return bytes(body), answer.headers.get("content-type", ""), public(url)

    def archive(self, url: str, filename: str, sha256: tuple[str, ...] = ()) -> tuple[Path, str]:
        """Return an archive's local file and its sha256 (hex), which must be one of ``sha256`` if there are any.

        It lies at ``<cache>/<sha256>/<filename>`` and is not fetched again when its hash was stated. Archives that were
        not used for longest make room when they are more than ``cache_bytes`` together. Raises
        :class:`SourceBuildError`, or :class:`~builder.repository.spec.RepositoryError` when it can't or may not be had.
        """
        for known in sha256:
            if used_now(path := self.cache / known / filename):
                return path, known
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache, prefix=".partial-") as scratch:
                partial = Path(scratch) / "archive"
                with web_client(self.fetching) as client:
                    download(client, url, partial, Expected(public(url)), MOST_ARCHIVE)
                found = file_sha256(partial)
                if sha256 and found not in sha256:
                    raise SourceBuildError(
                        f"{public(url)} has sha256 {found}, which is not what was stated ({', '.join(sha256)})"
                    )
                path = self.cache / found / filename
                _move(partial, path)
        except OSError as error:
            raise disk_error(error, self.cache) from error
        bound_files(files_below(self.cache), self.fetching.cache_bytes)
        return path, found


def _move(file: Path, path: Path) -> None:
    """Move a file to where it belongs, whose directory others may remove as long as it is empty."""
    while file.exists():
        path.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            file.rename(path)


def public(url: str) -> str:
    """Return an address without user name, password, query and fragment, for messages and records."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        return "an address that is none"


def has_credentials(url: str) -> bool:
    """Whether what is at ``url`` is read with somebody's rights: a name or password in it, or ssh."""
    if "://" not in url:
        return "@" in url  # git@host:path
    parts = urlsplit(url)
    return parts.scheme == "ssh" or "@" in parts.netloc
