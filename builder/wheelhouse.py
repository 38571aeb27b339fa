"""Wheels on local disk, by content: what a lock names is fetched once, checked while it streams in, and kept.

A wheel lies at ``<cache>/wheels/<first 2 hex of sha256>/<sha256>/<file name>``. What is there is whole and right: files
arrive under another name and are renamed when their hash has been seen to match. Those not used for longest make room.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx

from builder.bounded import GRACE_SECONDS, bound_files, files_below, used_now
from builder.locking.pylock import LockedPackage, LockError
from registry_sync.errors import CasabinderError, NotFoundError
from registry_sync.files import disk_error, new_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from builder.sources.shelf import MadeWheels

_ATTEMPTS = 4
_CHUNK = 2**20
_PARALLEL = 6
_IDENTITY = {"Accept-Encoding": "identity"}


class Wheelhouse:
    """The wheels under one directory; safe for many builders at once. Those of locks without addresses come from
    ``made``, the facility's wheels that were made from source."""

    def __init__(self, directory: Path, *, ca_bundle: Path | None = None, made: MadeWheels | None = None) -> None:
        self._directory = directory
        self._ca_bundle = ca_bundle
        self._made = made

    def path(self, package: LockedPackage) -> Path:
        """Return where the package's wheel lies, whether it is there or not."""
        return self._directory / package.sha256[:2] / package.sha256 / package.filename

    def has(self, package: LockedPackage) -> bool:
        """Return whether the package's wheel is there; it stays then for longer than a build takes."""
        return used_now(self.path(package))

    def prune(self, limit_bytes: int, grace: float = GRACE_SECONDS) -> int:
        """Delete the least recently used wheels until the rest has at most ``limit_bytes``; return the bytes freed.

        Those used within the last ``grace`` seconds stay.
        """
        return bound_files(files_below(self._directory), limit_bytes, grace)

    def sized(self, packages: Iterable[LockedPackage]) -> list[LockedPackage]:
        """Return the packages with their sizes in bytes: from the lock, from disk, or asked of the index (HEAD)."""
        known = [replace(p, size=self.path(p).stat().st_size) if self.has(p) else p for p in packages]
        if any(not package.size for package in known):
            with self._client() as client, ThreadPoolExecutor(_PARALLEL) as pool:
                return list(pool.map(lambda p: p if p.size else replace(p, size=self._ask_size(client, p)), known))
        return known

    def fetch(
        self, packages: Iterable[LockedPackage], progress: Callable[[int], None] = lambda _: None
    ) -> dict[str, Path]:
        """Return the local wheel of every package by sha256, fetching what is missing.

        ``progress`` gets the number of bytes that arrived since its last call. Raises :class:`LockError` when a file
        has not the hash that the lock names, :class:`CasabinderError` when it can't be had.
        """
        wanted = {package.sha256: package for package in packages}
        missing = [package for package in wanted.values() if not self.has(package)]
        if missing:
            with self._client() as client, ThreadPoolExecutor(_PARALLEL) as pool:
                for _ in pool.map(lambda package: self._fetch_one(client, package, progress), missing):
                    pass
        return {sha256: self.path(package) for sha256, package in wanted.items()}

    def add(self, package: LockedPackage, wheel: Path) -> Path:
        """Take in a wheel that was made here, and return its place there."""
        try:
            with wheel.open("rb") as file:
                self._keep(package, iter(lambda: file.read(_CHUNK), b""), lambda _: None)
        except OSError as error:
            raise disk_error(error, self._directory) from error
        return self.path(package)

    def _client(self) -> httpx.Client:
        context = ssl.create_default_context()
        if self._ca_bundle:
            context.load_verify_locations(self._ca_bundle)
        return httpx.Client(verify=context, timeout=60, follow_redirects=True)

    def _ask_size(self, client: httpx.Client, package: LockedPackage) -> int:
        if self._made is not None and not package.url:
            return self._made.size(package.sha256) or 0
        try:
            answer = client.head(package.url, headers=_IDENTITY)
            size = int(answer.headers.get("Content-Length", "0")) if answer.is_success else 0
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            size = 0
        if not size:  # an index that does not say must hand over the file itself
            self._fetch_one(client, package, lambda _: None)
            size = self.path(package).stat().st_size
        return size

    def _fetch_one(self, client: httpx.Client, package: LockedPackage, progress: Callable[[int], None]) -> None:
        if self._made is not None and not package.url:
            self._copy_made(self._made, package, progress)
            return
        if not package.url.startswith(("https://", "http://")):
            raise LockError(f"the lock does not say where {package.filename} can be fetched")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._download(client, package, progress)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
                passes = status is None or status >= 500 or status == 429
                if attempt == _ATTEMPTS or not passes:
                    reason = f"the index answered {status}" if status else str(error) or type(error).__name__
                    raise CasabinderError(f"{package.filename} could not be fetched: {reason}") from error
                time.sleep(0.5 * 2**attempt)
            except OSError as error:
                raise disk_error(error, self._directory) from error
            else:
                return

    def _copy_made(self, made: MadeWheels, package: LockedPackage, progress: Callable[[int], None]) -> None:
        try:
            with made.open(package.sha256) as chunks:
                self._keep(package, chunks, progress)
        except NotFoundError as error:
            raise LockError(
                f"{package.filename} was made from source, and neither this builder nor {made.repository} of the "
                "registry has it any more; build with --rebuild to make it again"
            ) from error
        except OSError as error:
            raise disk_error(error, self._directory) from error

    def _download(self, client: httpx.Client, package: LockedPackage, progress: Callable[[int], None]) -> None:
        with client.stream("GET", package.url, headers=_IDENTITY) as response:
            response.raise_for_status()
            self._keep(package, response.iter_raw(_CHUNK), progress)

    def _keep(self, package: LockedPackage, chunks: Iterable[bytes], progress: Callable[[int], None]) -> None:
        destination = self.path(package)
        hasher = hashlib.sha256()
        handle, partial = new_file(destination.parent)
        try:
            with os.fdopen(handle, "wb") as sink:
                for chunk in chunks:
                    hasher.update(chunk)
                    sink.write(chunk)
                    progress(len(chunk))
            if hasher.hexdigest() != package.sha256:
                raise LockError(
                    f"{package.filename} has sha256 {hasher.hexdigest()}, but the lock says {package.sha256}; "
                    "it was changed at the index, or on the way"
                )
            partial.chmod(0o644)
            partial.rename(destination)
        finally:
            partial.unlink(missing_ok=True)
