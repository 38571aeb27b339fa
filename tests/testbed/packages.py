"""Small wheels, and a package index on the loopback interface that offers them (PEP 503, PEP 691)."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import unquote

from builder.locking.pylock import LockedPackage
from tests.testbed.registry import running_http_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_JSON = "application/vnd.pypi.simple.v1+json"


@dataclass(frozen=True)
class BuiltWheel:
    """A wheel in memory. Nothing in it is compressed, so that its bytes are the same everywhere."""

    name: str
    version: str
    content: bytes
    requires: tuple[str, ...] = ()
    requires_python: str = ""
    tag: str = "py3-none-any"

    @property
    def filename(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-{self.tag}.whl"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def locked(self, url: str = "", *, size: int | None = None) -> LockedPackage:
        """Return the package as a lock names it; ``size`` is the wheel's own unless another is stated."""
        known = len(self.content) if size is None else size
        return LockedPackage(self.name, self.version, self.filename, self.sha256, url, known)

    def write(self, directory: Path) -> Path:
        path = directory / self.filename
        path.write_bytes(self.content)
        return path


def built_wheel(
    name: str,
    version: str = "1.0",
    files: Mapping[str, bytes] | None = None,
    *,
    requires: Iterable[str] = (),
    requires_python: str = "",
    tag: str = "py3-none-any",
) -> BuiltWheel:
    """Return the wheel of a package that holds ``files`` (one module that states its version, if none are given)."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Python: {requires_python}\n" if requires_python else ""
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    members = {
        **(files if files is not None else {f"{module}/__init__.py": f"VERSION = {version!r}\n".encode()}),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    rows = [f"{path},sha256={_hash(data)},{len(data)}" for path, data in members.items()]
    members[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for path, data in members.items():
            about = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            about.create_system = 3
            about.external_attr = 0o100644 << 16
            zipped.writestr(about, data)
    return BuiltWheel(name, version, archive.getvalue(), tuple(requires), requires_python, tag)


@dataclass
class Index:
    """A running index. ``asked`` are the requests so far (``GET /files/...``); ``faults`` maps paths to a status,
    ``busy`` to how often they are answered with ``Retry-After: 7`` first; ``uploaded`` maps names of wheels to upload
    times (PEP 700). Ranges are answered if ``ranges`` says so. ``vulnerable`` maps ``NAME/VERSION`` to
    vulnerabilities; without it the index has no such pages."""

    url: str = ""
    wheels: list[BuiltWheel] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    sizes: bool = True
    ranges: bool = True
    uploaded: dict[str, str] = field(default_factory=dict)
    vulnerable: dict[str, list[dict[str, object]]] | None = None

    def address_of(self, wheel: BuiltWheel) -> str:
        return f"{self.url.removesuffix('/simple')}/files/{wheel.filename}"

    def locked(self, wheel: BuiltWheel, *, size: int | None = None) -> LockedPackage:
        return wheel.locked(self.address_of(wheel), size=size)

    def _page(self, name: str) -> bytes | None:
        files = [
            {
                "filename": wheel.filename,
                "url": self.address_of(wheel),
                "hashes": {"sha256": wheel.sha256},
                **({"requires-python": wheel.requires_python} if wheel.requires_python else {}),
                **({"size": len(wheel.content)} if self.sizes else {}),
                **({"upload-time": self.uploaded[wheel.filename]} if wheel.filename in self.uploaded else {}),
            }
            for wheel in self.wheels
            if wheel.name == name
        ]
        return json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files}).encode() if files else None


@contextmanager
def running_index(wheels: Iterable[BuiltWheel] = ()) -> Iterator[Index]:
    """Offer ``wheels`` on a free loopback port until the end."""
    index = Index(wheels=list(wheels))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            index.asked.append(f"{self.command} {self.path}")
            _, kind, rest = [*unquote(self.path).split("/", 2), "", ""][:3]
            status, body, content_type = 404, None, "text/plain"
            busy = index.busy.get(self.path, 0)
            if busy:
                status, index.busy[self.path] = 429, busy - 1
            elif self.path in index.faults:
                status = index.faults[self.path]
            elif kind == "simple":
                body, content_type = index._page(rest.strip("/")), _JSON
            elif kind == "pypi" and index.vulnerable is not None:
                known = index.vulnerable.get(rest.removesuffix("/json"), [])
                body, content_type = json.dumps({"vulnerabilities": known}).encode(), "application/json"
            elif kind == "files":
                body = next((wheel.content for wheel in index.wheels if wheel.filename == rest), None)
            wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")) if index.ranges else None
            if body and wanted:  # RFC 9110, 14.2: the last n bytes, or from here to there
                total, (first, last) = len(body), wanted.groups()
                start = int(first) if first else max(0, total - int(last))
                body = body[start : int(last) + 1 if first and last else total]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{total}")
            else:
                self.send_response(status if body is None else 200)
                if busy:
                    self.send_header("Retry-After", "7")
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if with_body:
                self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

    with running_http_server(Handler) as address:
        index.url = f"http://{address}/simple"
        yield index


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
