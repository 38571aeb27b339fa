"""A real git server over HTTP on the loopback interface (``git http-backend``), with Git LFS's batch API, for tests.

Example usage/behaviour::

    with running_git_server(tmp_path / "served", login=("me", "token")) as server:
        server.add("group/repo", work_directory)
        resolve_ref(RepoSpec(server.url("group/repo")), Fetching(private_addresses=True))

Every request is recorded in ``server.requests``. ``moved`` maps repositories to where requests for them are redirected;
``objects`` are the LFS objects, by SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.testbed.git_repository import git
from tests.testbed.registry import running_http_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class GitServer:
    """A running server."""

    directory: Path
    address: str = ""
    login: tuple[str, str] | None = None
    objects: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and ``Authorization`` of every request."""

    def url(self, name: str) -> str:
        """Return a repository's URL."""
        return f"http://{self.address}/{name}"

    def add(self, name: str, work: Path) -> None:
        """Serve a copy of a repository."""
        target = self.directory / name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        git(self.directory, "clone", "--quiet", "--bare", str(work), str(target))

    def add_object(self, content: bytes) -> str:
        """Keep an LFS object and return the pointer file that stands for it."""
        oid = hashlib.sha256(content).hexdigest()
        self.objects[oid] = content
        return pointer(content)


def pointer(content: bytes) -> str:
    """Return the LFS pointer file that stands for a content."""
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"


@contextmanager
def running_git_server(directory: Path, login: tuple[str, str] | None = None) -> Iterator[GitServer]:
    """Serve the repositories of ``directory``; with ``login`` only to those who give this user name and password."""
    directory.mkdir(parents=True, exist_ok=True)
    server = GitServer(directory, login=login)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(b"")

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.answer(body)

        def answer(self, body: bytes) -> None:
            server.requests.append((self.path, self.headers.get("Authorization")))
            name = urlsplit(self.path).path.lstrip("/")
            for moved, target in server.moved.items():
                if name.startswith(f"{moved}/"):
                    self.say(302, b"", {"Location": target + self.path[len(moved) + 1 :]})
                    return
            if server.login and self.headers.get("Authorization") != _basic(server.login):
                self.say(401, b"", {"WWW-Authenticate": 'Basic realm="private"'})
            elif name.endswith("/info/lfs/objects/batch"):
                self.batch(json.loads(body))
            elif name.startswith("lfs-objects/"):
                self.say(200, server.objects[name.rpartition("/")[2]])
            else:
                self.backend(body)

        def batch(self, question: dict[str, list[dict[str, str]]]) -> None:
            objects: list[object] = []
            for asked in question["objects"]:
                if asked["oid"] in server.objects:
                    href = f"http://{server.address}/lfs-objects/{asked['oid']}"
                    header = {"Authorization": _basic(server.login)} if server.login else {}
                    objects.append({**asked, "actions": {"download": {"href": href, "header": header}}})
                else:
                    objects.append({**asked, "error": {"code": 404, "message": "Object does not exist"}})
            content = json.dumps({"transfer": "basic", "objects": objects}).encode()
            self.say(200, content, {"Content-Type": "application/vnd.git-lfs+json"})

        def backend(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(server.directory),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_ADDR": "127.0.0.1",
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, capture_output=True, check=False, env=environment
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self.say(int(headers.pop("Status", "200").split()[0]), content, headers)

        def say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            with suppress(ConnectionError):  # git was ended
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

    with running_http_server(Handler) as address:
        server.address = address
        yield server


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()
