"""A hub's API and its proxy over HTTP that do as they are told: for what a real hub does only when it is broken."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

READY = {"progress": 100, "ready": True, "message": "Server ready"}
FAILED = {"progress": 100, "failed": True}


@dataclass
class ScriptedHub:
    """``starts`` says what becomes of each start, in order: the events of its progress, or the status of a refusal.
    ``broken`` is how many requests are answered with 503 first. ``asked`` has method and path of every request,
    ``removed`` the paths of servers that were removed with their files."""

    url: str = ""
    starts: list[list[dict[str, Any]] | int] = field(default_factory=list)
    broken: int = 0
    active: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    _progress: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Return status and body."""
        self.asked.append(f"{method} {path}")
        if body.get("remove"):
            self.removed.append(path)
        if self.broken:
            self.broken -= 1
            return 503, b"Bad Gateway"
        if path.endswith("/api"):  # the notebook server, through the proxy
            return 200, b'{"version": "2"}'
        if path.endswith("/progress"):
            return 200, b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in self._progress)
        if path.startswith("/hub/api/users?"):
            return 200, json.dumps({"items": self.active, "_pagination": {"next": None}}).encode()
        if method == "POST" and "/server" in path:
            self.options.append(body["user_options"])
            start = self.starts.pop(0)
            if isinstance(start, int):
                return start, json.dumps({"status": start, "message": "the hub is full"}).encode()
            self._progress = start
            return 202, b""
        if method == "GET":
            return 200, json.dumps({"servers": {}}).encode()
        return 201 if method == "POST" else 204, b""


@contextmanager
def scripted_hub(*starts: list[dict[str, Any]] | int, broken: int = 0) -> Iterator[ScriptedHub]:
    """Run one on a port of loopback."""
    hub = ScriptedHub(starts=list(starts), broken=broken)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, content = hub.answer(self.command, self.path, body)
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if status != 204:
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
