"""Notebook servers as their users see them: a name, an address, and the files that let only their owner in.

``<cache>/servers/NAME.token`` holds a server's token, and ``NAME.html`` leads a browser to the server with it, as
``jupyter lab`` does: that way the token is in none of the browser's arguments. Only their owner can read these files.
"""

from __future__ import annotations

import fcntl
import html
import os
import secrets
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from registry_sync.files import disk_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BROWSER_PAGE = """<!DOCTYPE html>
<html>
<head>
<meta charset="UTF-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={address}">
<title>{name}</title>
</head>
<body><p>If nothing happens, <a href="{address}">open {name}</a>.</p></body>
</html>
"""


@dataclass(frozen=True)
class Server:
    """A notebook server; ``state`` is Docker's (``running``, ``exited``...), ``since`` when it was started (RFC 3339).

    ``url`` has no token in it and is empty unless the server runs. ``browser_file`` is what to open in a browser.
    """

    name: str
    repo: str
    ref: str
    commit: str
    image_id: str
    env_id: str
    digest: str
    state: str
    since: str
    workers: int
    url: str
    browser_file: Path
    token: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """The address that lets its reader in: for a person's own terminal or browser, and for nothing else."""
        return f"{self.url}lab?token={self.token}" if self.token else f"{self.url}lab"

    def to_json(self) -> dict[str, Any]:
        """Return the server as a JSON object, without the token."""
        document = {**asdict(self), "browser_file": str(self.browser_file)}
        del document["token"]
        return document


class ServerFiles:
    """The files of this user's servers in the cache."""

    def __init__(self, cache: Path) -> None:
        self._directory = cache / "servers"

    def new_token(self, name: str) -> str:
        """Make, keep and return the token of a server."""
        token = secrets.token_hex(24)
        self._write(self._token_file(name), token)
        return token

    def token(self, name: str) -> str:
        """Return a server's token; nothing if it is not known here."""
        try:
            return self._token_file(name).read_text(encoding="ascii")
        except OSError:
            return ""

    def browser_file(self, name: str) -> Path:
        """Return where the page is that leads to a server."""
        return self._directory / f"{name}.html"

    def write_browser_file(self, server: Server) -> None:
        """Write the page that leads to a server."""
        self._write(
            self.browser_file(server.name),
            _BROWSER_PAGE.format(address=html.escape(server.address), name=html.escape(server.name)),
        )

    def remove(self, name: str) -> None:
        """Remove all files of a server."""
        for path in (self._token_file(name), self.browser_file(name)):
            path.unlink(missing_ok=True)

    @contextmanager
    def one_launch_at_a_time(self, name: str) -> Iterator[None]:
        """Keep a second launch of the same server waiting until the first is done."""
        self._make_directory()
        with (self._directory / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _token_file(self, name: str) -> Path:
        return self._directory / f"{name}.token"

    def _make_directory(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self._directory) from error

    def _write(self, path: Path, text: str) -> None:
        self._make_directory()
        try:
            path.unlink(missing_ok=True)  # its mode may have been changed
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
                sink.write(text)
        except OSError as error:
            raise disk_error(error, self._directory) from error
