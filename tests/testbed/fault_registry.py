"""A small in-memory registry over real HTTP that can be told to misbehave, for tests of registry clients.

Example usage/behaviour::

    with running_fault_registry() as registry:
        registry.faults.mount_answers_202 = True
        client = RegistryClient(registry.address, credentials=None, sleep=lambda seconds: None)

It keeps manifests and blobs per repository as a registry does, checks digests, and records each request in
``registry.requests``. The faults are those of the distribution specification's grey zones; all are off at first.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.testbed.registry import running_http_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass
class Faults:
    """What goes wrong. Counters count down to zero; the rest is on until it is switched off."""

    fail_next: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    """(method, status, headers): the next request with this method is answered so, each entry once, in order."""
    break_next: list[str] = field(default_factory=list)
    """Methods: the next such request has its connection closed; a PATCH after half of its body was taken."""
    mount_answers_202: bool = False
    mount_status: int | None = None
    absolute_location: bool = False
    chunk_min_length: int | None = None
    lose_chunks: int = 0
    """So many PATCH requests are answered 416 after half of their bytes were taken."""
    lose_sessions: int = 0
    """So many PATCH requests are answered 404, and the session is gone."""
    partial_chunks: int = 0
    """So many PATCH requests take half of their bytes and say so in Range, with 202."""
    deny_blobs: int = 0
    """So many PUT requests of manifests are answered that their blobs are unknown."""
    without_subject: bool = False
    """No referrers API: 404 for it, and no OCI-Subject."""
    without_filter: bool = False
    page_size: int | None = None
    without_catalogue: bool = False
    redirect_blobs_to: str | None = None
    """Blob GETs are redirected to this ``scheme://host:port``, same path."""
    wrong_bytes: bool = False
    truncate_blobs: int = 0
    """So many blob GETs break off after half of the bytes."""
    ignore_range: bool = False
    without_head_headers: bool = False
    deletion_disabled: bool = False
    basic: tuple[str, str] | None = None
    """The only user name and password let in."""
    token_requests: int | None = None
    """Bearer tokens are wanted, and each is good for so many requests."""
    token_issued_at: str | None = None
    token_expires_in: int = 300


@dataclass(frozen=True)
class Request:
    """A request as it came; ``authorization`` is the header."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    authorization: str | None
    headers: Mapping[str, str]
    body_bytes: int


@dataclass
class Repository:
    """What one repository holds."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class FaultRegistry:
    """The state of a running fault registry."""

    def __init__(self) -> None:
        self.address = ""
        self.faults = Faults()
        self.repositories: dict[str, Repository] = {}
        self.sessions: dict[str, bytearray] = {}
        self.cancelled: list[str] = []
        self.requests: list[Request] = []
        self.tokens: dict[str, int] = {}
        self.token_scopes: list[list[str]] = []
        self.steps = 0
        self.lock = threading.RLock()

    def repository(self, name: str) -> Repository:
        """Return a repository, made if it is new."""
        return self.repositories.setdefault(name, Repository())

    def add_blob(self, repository: str, data: bytes) -> str:
        """Put a blob there without a request; return its digest."""
        digest = _digest(data)
        self.repository(repository).blobs[digest] = data
        return digest

    def seen(self, method: str, part: str = "") -> list[Request]:
        """Return the requests with this method whose path holds ``part``."""
        return [request for request in self.requests if request.method == method and part in request.path]


@contextmanager
def running_fault_registry() -> Iterator[FaultRegistry]:
    """Run a fault registry on a free loopback port until the end."""
    registry = FaultRegistry()
    with running_http_server(_handler(registry)) as address:
        registry.address = address
        yield registry


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _handler(registry: FaultRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet: two would wait for the client's delayed acknowledgement

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def do_HEAD(self) -> None:
            self.serve()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD  # noqa: N815 - the base class's names

        def serve(self) -> None:
            self.url = urlsplit(self.path)
            self.query = parse_qs(self.url.query, keep_blank_values=True)
            length = int(self.headers.get("Content-Length") or 0)
            breaks = self.command in registry.faults.break_next
            if breaks:
                registry.faults.break_next.remove(self.command)
                length //= 2
            self.body = self.rfile.read(length)
            with registry.lock:
                registry.requests.append(
                    Request(
                        self.command,
                        self.url.path,
                        self.query,
                        self.headers.get("Authorization"),
                        dict(self.headers.items()),
                        len(self.body),
                    )
                )
                if breaks:
                    if self.command == "PATCH":
                        registry.sessions[self.url.path.rpartition("/")[2]] += self.body
                    self.close_connection = True
                    return
                self.route()

        def route(self) -> None:
            if self.url.path == "/token":
                self.token()
                return
            for entry in registry.faults.fail_next:
                if entry[0] == self.command:
                    registry.faults.fail_next.remove(entry)
                    self.reply(entry[1], entry[2])
                    return
            if not self.is_let_in():
                return
            parts = self.url.path.split("/")
            if self.url.path == "/v2/":
                self.reply(200)
            elif self.url.path == "/v2/_catalog":
                self.catalogue()
            elif "uploads" in parts:
                self.upload("/".join(parts[2 : parts.index("blobs")]), parts[-1])
            elif len(parts) > 4 and parts[-2] in ("blobs", "manifests", "referrers", "tags"):
                getattr(self, parts[-2])("/".join(parts[2:-2]), parts[-1])
            else:
                self.reply(404)

        def reply(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, status: int, code: str) -> None:
            self.reply(status, body=json.dumps({"errors": [{"code": code, "message": "refused"}]}).encode())

        def is_let_in(self) -> bool:
            faults, authorization = registry.faults, self.headers.get("Authorization")
            if faults.basic is not None:
                pair = base64.b64encode(":".join(faults.basic).encode()).decode()
                if authorization == f"Basic {pair}":
                    return True
                self.reply(401, {"WWW-Authenticate": 'Basic realm="a, b"'})
                return False
            if faults.token_requests is None:
                return True
            token = (authorization or "").removeprefix("Bearer ")
            if registry.tokens.get(token, 0) > 0:
                registry.tokens[token] -= 1
                return True
            realm = f'Bearer realm="http://{registry.address}/token",service="test",scope="repository:a:pull,push"'
            self.reply(401, {"WWW-Authenticate": realm})
            return False

        def token(self) -> None:
            name = f"token-{len(registry.token_scopes)}"
            registry.token_scopes.append(self.query.get("scope", []))
            registry.tokens[name] = registry.faults.token_requests or 0
            document: dict[str, Any] = {"access_token": name, "expires_in": registry.faults.token_expires_in}
            if registry.faults.token_issued_at:
                document["issued_at"] = registry.faults.token_issued_at
            self.reply(200, body=json.dumps(document).encode())

        def blobs(self, name: str, digest: str) -> None:
            faults, blob = registry.faults, registry.repository(name).blobs.get(digest)
            if self.command == "DELETE" and faults.deletion_disabled:
                self.refuse(405, "UNSUPPORTED")
            elif blob is None:
                self.refuse(404, "BLOB_UNKNOWN")
            elif self.command == "DELETE":
                del registry.repository(name).blobs[digest]
                self.reply(202)
            elif self.command == "GET" and faults.redirect_blobs_to:
                self.reply(307, {"Location": f"{faults.redirect_blobs_to}{self.url.path}?signature=secret"})
            elif self.command == "HEAD":
                self.reply(200, {"Content-Length": str(len(blob)), "Docker-Content-Digest": digest})
            else:
                self.send_blob(bytes(len(blob)) if faults.wrong_bytes else blob)

        def send_blob(self, blob: bytes) -> None:
            start, status, headers = 0, 200, {}
            if self.headers.get("Range") and not registry.faults.ignore_range:
                start, status = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")), 206
                headers["Content-Range"] = f"bytes {start}-{len(blob) - 1}/{len(blob)}"
            rest = blob[start:]
            headers["Content-Length"] = str(len(rest))
            if registry.faults.truncate_blobs:
                registry.faults.truncate_blobs -= 1
                rest = rest[: len(rest) // 2]
                self.close_connection = True
            self.reply(status, headers, rest)

        def upload(self, name: str, session: str) -> None:
            if self.command == "POST":
                self.open_upload(name)
            elif session not in registry.sessions:
                self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
            elif self.command == "DELETE":
                registry.cancelled.append(session)
                del registry.sessions[session]
                self.reply(204)
            elif self.command == "GET":
                self.reply(204, self.session_headers(name, session))
            elif self.query.get("step") != [str(registry.steps)]:
                self.refuse(400, "BLOB_UPLOAD_INVALID")  # not the newest Location
            elif self.command == "PATCH":
                self.patch(name, session)
            else:
                self.commit(name, session)

        def open_upload(self, name: str) -> None:
            faults, source = registry.faults, self.query.get("from", [""])[0]
            digest = self.query.get("mount", [""])[0]
            if digest and faults.mount_status:
                self.refuse(faults.mount_status, "DENIED")
            elif digest and not faults.mount_answers_202 and digest in registry.repository(source).blobs:
                registry.repository(name).blobs[digest] = registry.repository(source).blobs[digest]
                self.reply(201, {"Location": f"/v2/{name}/blobs/{digest}"})
            else:
                session = f"session-{len(registry.requests)}"
                registry.sessions[session] = bytearray()
                headers = self.session_headers(name, session)
                if faults.chunk_min_length:
                    headers["OCI-Chunk-Min-Length"] = str(faults.chunk_min_length)
                self.reply(202, headers)

        def session_headers(self, name: str, session: str) -> dict[str, str]:
            registry.steps += 1
            location = f"/v2/{name}/blobs/uploads/{session}?state=a%3D%3D&step={registry.steps}"
            if registry.faults.absolute_location:
                location = f"http://{registry.address}{location}"
            return {"Location": location, "Range": f"0-{max(0, len(registry.sessions[session]) - 1)}"}

        def patch(self, name: str, session: str) -> None:
            faults, data = registry.faults, registry.sessions[session]
            start, _, end = self.headers["Content-Range"].partition("-")
            if int(start) != len(data) or int(end) + 1 - int(start) != len(self.body):
                self.refuse(416, "BLOB_UPLOAD_INVALID")
            elif faults.lose_sessions:
                faults.lose_sessions -= 1
                del registry.sessions[session]
                self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
            elif faults.lose_chunks:
                faults.lose_chunks -= 1
                data += self.body[: len(self.body) // 2]
                self.refuse(416, "BLOB_UPLOAD_INVALID")
            else:
                half = faults.partial_chunks > 0
                faults.partial_chunks -= half
                data += self.body[: len(self.body) // 2] if half else self.body
                self.reply(202, self.session_headers(name, session))

        def commit(self, name: str, session: str) -> None:
            data = bytes(registry.sessions[session] + self.body)
            digest = self.query["digest"][0]
            if _digest(data) != digest:
                self.refuse(400, "DIGEST_INVALID")
                return
            del registry.sessions[session]
            registry.repository(name).blobs[digest] = data
            self.reply(201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})

        def manifests(self, name: str, reference: str) -> None:
            repository = registry.repository(name)
            digest = repository.tags.get(reference, reference)
            if self.command == "PUT":
                self.put_manifest(repository, reference)
            elif self.command == "DELETE" and registry.faults.deletion_disabled:
                self.refuse(405, "UNSUPPORTED")
            elif digest not in repository.manifests:
                self.refuse(404, "MANIFEST_UNKNOWN")
            elif self.command == "DELETE":
                if reference == digest:
                    del repository.manifests[digest]
                repository.tags = {
                    tag: target for tag, target in repository.tags.items() if reference not in (tag, target)
                }
                self.reply(202)
            else:
                media_type, raw = repository.manifests[digest]
                if registry.faults.wrong_bytes:
                    raw = raw.replace(b"{", b"{ ", 1)
                headers = {"Content-Type": media_type, "Docker-Content-Digest": digest, "Content-Length": str(len(raw))}
                if self.command == "HEAD" and registry.faults.without_head_headers:
                    headers = {}
                self.reply(200, headers, raw)

        def put_manifest(self, repository: Repository, reference: str) -> None:
            digest = _digest(self.body)
            if registry.faults.deny_blobs:
                registry.faults.deny_blobs -= 1
                self.refuse(400, "MANIFEST_BLOB_UNKNOWN")
                return
            if ":" in reference and reference != digest:
                self.refuse(400, "DIGEST_INVALID")
                return
            repository.manifests[digest] = (self.headers["Content-Type"], self.body)
            if ":" not in reference:
                repository.tags[reference] = digest
            headers = {"Docker-Content-Digest": digest}
            subject = json.loads(self.body).get("subject")
            if subject and not registry.faults.without_subject:
                headers["OCI-Subject"] = subject["digest"]
            self.reply(201, headers)

        def page(self, items: list[Any]) -> tuple[list[Any], dict[str, str]]:
            size, start = registry.faults.page_size or len(items), int(self.query.get("last", ["0"])[0])
            if start + size >= len(items):
                return items[start:], {}
            following = f"{self.url.path}?last={start + size}"
            return items[start : start + size], {"Link": f'<{following}>; rel="next"'}

        def catalogue(self) -> None:
            if registry.faults.without_catalogue:
                self.refuse(404, "UNSUPPORTED")
                return
            names, headers = self.page(sorted(registry.repositories))
            self.reply(200, headers, json.dumps({"repositories": names}).encode())

        def tags(self, name: str, _: str) -> None:
            if name not in registry.repositories:
                self.refuse(404, "NAME_UNKNOWN")
                return
            tags, headers = self.page(sorted(registry.repositories[name].tags))
            self.reply(200, headers, json.dumps({"name": name, "tags": tags or None}).encode())

        def referrers(self, name: str, digest: str) -> None:
            if registry.faults.without_subject:
                self.reply(404, body=b"<html>404 page not found</html>")
                return
            found = []
            for key, (media_type, raw) in registry.repository(name).manifests.items():
                document = json.loads(raw)
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
                if document.get("subject", {}).get("digest") == digest:
                    found.append({"mediaType": media_type, "digest": key, "size": len(raw), "artifactType": kind})
            headers = {}
            if "artifactType" in self.query and not registry.faults.without_filter:
                found = [entry for entry in found if entry["artifactType"] == self.query["artifactType"][0]]
                headers["OCI-Filters-Applied"] = "artifactType"
            manifests, link = self.page(found)
            index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}
            self.reply(200, {**headers, **link}, json.dumps(index).encode())

    return Handler
