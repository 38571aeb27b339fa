"""The rules that fetching a repository keeps: what may be asked, how much may come, and with whose token."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.repository.spec import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class GitCredentials:
    """A user's own token for one host, as the path of a file that holds ``TOKEN`` or ``USER:TOKEN``.

    Only the path travels: to git's credential helper (credential.py), never the token.
    """

    file: Path
    host: str
    """Host name and port, if there is one, as in the URL: ``github.com``, ``git.example.org:8443``."""

    def login(self) -> tuple[str, str]:
        """Read user name and token; raise :class:`RepositoryError` for a file that others may read, or a wrong one."""
        try:
            mode = self.file.stat().st_mode
            if not stat.S_ISREG(mode):
                raise RepositoryError(f"the token file {self.file} is not a plain file")
            if mode & 0o077:
                raise RepositoryError(f"the token file {self.file} can be read by others; run `chmod 600 {self.file}`")
            text = self.file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise RepositoryError(f"the token file {self.file} can't be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise RepositoryError(f"the token file {self.file} is not text") from error
        user, separator, token = text.partition(":")
        user, token = (user, token) if separator else ("oauth2", text)
        if not user or not token or any(character.isspace() or not character.isprintable() for character in text):
            raise RepositoryError(f"the token file {self.file} must hold one line, TOKEN or USER:TOKEN")
        return user, token

    def realm(self) -> str:
        """Return 32 hex digits that differ between tokens and do not give the token away."""
        user, token = self.login()
        return hashlib.sha256(f"casabinder git cache\0{self.host}\0{user}\0{token}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Fetching:
    """What a site allows and what a user brings along. Sizes are bytes.

    The defaults are those of a person at the command line: directories of the machine are repositories, addresses of
    the local network are not asked. A service that builds for others sets ``local=False``.
    """

    local: bool = True
    private_addresses: bool = False
    max_bytes: int = 2 * 10**9
    """Of one fetch as it comes over the network, and of all files of the tree."""
    max_file_bytes: int = 10**9
    max_files: int = 100_000
    cache_bytes: int = 20 * 10**9
    """Of all repositories in the cache together."""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Base URLs that replace a provider's own, by prefix; ``doi`` is the resolver of DOIs."""
    credentials: GitCredentials | None = None
    ca_bundle: Path | None = None
    """Certificates to trust instead of git's and Python's own, for hosts behind a private CA."""
