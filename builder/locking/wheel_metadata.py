"""What wheels require, without downloading them: from the wheel on disk, else the few kilobytes of it that say so.

A wheel is a zip, whose list of members stands at its end; an index that answers ranges (RFC 9110, 14.2) gives that end
and the METADATA for one or two requests. What was read once is kept by the wheel's hash. The answer serves
reports and the check that packages fit each other, never the choice of bytes: a wheel whose metadata can't be had is
simply not looked at before it is fetched.
"""

from __future__ import annotations

import io
import json
import ssl
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING

import httpx

from builder.base import InstalledPackage
from builder.bounded import bound_files, files_below, used_now
from builder.damaged import DAMAGED_ARCHIVE
from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from builder.locking.pylock import LockedPackage
    from builder.wheelhouse import Wheelhouse

_PARALLEL = 8
_TAIL = 2**16  # bytes that are read from the end of a wheel at once
_UNREADABLE: tuple[type[Exception], ...] = (*DAMAGED_ARCHIVE, ValueError, httpx.InvalidURL)
_LARGEST = 4 * 2**20  # bytes of METADATA, or of a list of members
_SECONDS = 20.0
_BLOCK = 4096  # bytes that the smallest file takes of a disk


@dataclass(frozen=True)
class MetadataShelf:
    """Metadata by wheel: ``directory`` keeps what was read, ``ca_bundle`` are certificates that the index needs.

    What was not used for longest makes room when the files take more than ``limit_bytes`` of the disk.
    """

    directory: Path
    wheelhouse: Wheelhouse
    ca_bundle: Path | None = None
    limit_bytes: int = 200 * 10**6

    def describe(self, packages: Iterable[LockedPackage]) -> dict[str, InstalledPackage]:
        """Return the packages with what they require, by name; one whose wheel says nothing yet requires nothing."""
        found: dict[str, InstalledPackage] = {}
        asked, new = [], False
        for package in packages:
            known = self._known(package)
            if known is None:
                known = self._local(package)
                new = new or known is not None
            silent = self._place(package).with_suffix(".none")
            if known is None and not used_now(silent) and package.url.startswith(("https://", "http://")):
                asked.append(package)
            found[package.name] = _described(package, known or ((), ""))
        if asked:
            context = ssl.create_default_context()
            if self.ca_bundle:
                context.load_verify_locations(self.ca_bundle)
            with (
                httpx.Client(verify=context, timeout=_SECONDS, follow_redirects=True) as client,
                ThreadPoolExecutor(_PARALLEL) as pool,
            ):
                answers = pool.map(lambda package: _remote(client, package), asked)
                for package, answer in zip(asked, answers, strict=True):
                    if isinstance(answer, tuple):
                        self._keep(package, answer)
                        found[package.name] = _described(package, answer)
                    elif not answer:
                        write_atomically(self._place(package).with_suffix(".none"), b"")
        if asked or new:
            bound_files(files_below(self.directory), self.limit_bytes, least=_BLOCK)
        return found

    def _place(self, package: LockedPackage) -> Path:
        return self.directory / package.sha256[:2] / f"{package.sha256}.json"

    def _known(self, package: LockedPackage) -> tuple[tuple[str, ...], str] | None:
        try:
            place = self._place(package)
            document = json.loads(place.read_bytes())
            used_now(place)
            return tuple(map(str, document["requires"])), str(document["requires_python"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _local(self, package: LockedPackage) -> tuple[tuple[str, ...], str] | None:
        path = self.wheelhouse.path(package)
        if not path.is_file():
            return None
        from builder.layers.wheelfile import metadata, open_wheel

        try:
            with open_wheel(path) as wheel:
                described = metadata(wheel)
        except CasabinderError:
            return None  # making its layer will say what is wrong with it
        answer = described.requires_dist, described.requires_python
        self._keep(package, answer)
        return answer

    def _keep(self, package: LockedPackage, answer: tuple[tuple[str, ...], str]) -> None:
        requires, requires_python = answer
        write_atomically(
            self._place(package), canonical_json({"requires": list(requires), "requires_python": requires_python})
        )


def _described(package: LockedPackage, answer: tuple[tuple[str, ...], str]) -> InstalledPackage:
    requires, requires_python = answer
    return InstalledPackage(
        package.name,
        package.version,
        package.filename,
        package.sha256,
        requires,
        requires_python,
        package.url,
        package.size,
    )


def _remote(client: httpx.Client, package: LockedPackage) -> tuple[tuple[str, ...], str] | bool:
    """Return what a wheel at an index says; else whether it is worth while to ask again."""
    try:
        file = _RemoteFile(client, package.url)
        with zipfile.ZipFile(file) as zipped:
            members = [
                item
                for item in zipped.infolist()
                if item.filename.count("/") == 1 and item.filename.endswith(".dist-info/METADATA")
            ]
            if len(members) != 1 or members[0].file_size > _LARGEST:
                return False
            with zipped.open(members[0]) as content:
                text = content.read(_LARGEST).decode("utf-8", "replace")
    except (OSError, httpx.HTTPError):
        return True
    except _UNREADABLE:
        return False
    message = HeaderParser().parsestr(text)
    requires = tuple(str(line) for line in message.get_all("Requires-Dist", []))
    return requires, str(message.get("Requires-Python", ""))


class _RemoteFile(io.RawIOBase):
    """A file behind a URL that is read by ranges; its end is fetched first. Refuses to read much."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self._client = client
        self._url = url
        self._position = 0
        self._held, self._size = self._range(f"-{_TAIL}")
        self._start = self._size - len(self._held)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        if self._position >= end:
            return b""
        if not (self._start <= self._position and end <= self._start + len(self._held)):
            last = min(max(end, self._position + _TAIL), self._size)
            if last - self._position > _LARGEST:
                raise ValueError("more is to be read than any wheel's metadata has")
            self._held, _ = self._range(f"{self._position}-{last - 1}")
            self._start = self._position
        data = self._held[self._position - self._start : end - self._start]
        self._position += len(data)
        return data

    def _range(self, wanted: str) -> tuple[bytes, int]:
        headers = {"Range": f"bytes={wanted}", "Accept-Encoding": "identity"}
        with self._client.stream("GET", self._url, headers=headers) as response:
            if response.is_server_error:
                response.raise_for_status()
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if response.status_code != httpx.codes.PARTIAL_CONTENT or not total.isdecimal():
                raise ValueError("the index does not answer ranges")
            content = bytearray()
            for chunk in response.iter_raw():
                content += chunk
                if len(content) > _LARGEST + _TAIL:
                    raise ValueError("the index answers more than was asked")
        return bytes(content), int(total)
