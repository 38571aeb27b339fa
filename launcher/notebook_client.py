"""Runs a notebook in a running notebook server over the server's own HTTP and WebSocket API, as JupyterLab would.

The notebook is read and written through the contents API, its kernel is made by the sessions API, so that the server's
page shows it as running; cells go over the kernel's WebSocket in Jupyter's message protocol 5.3
(https://jupyter-client.readthedocs.io/en/stable/messaging.html).
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import websocket

from builder.escapes import without_colours
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

REQUEST_SECONDS = 60.0
CELL_SECONDS = 600.0
_PROTOCOL = "5.3"


class NotebookError(CasabinderError):
    """A notebook that can't be run, or a cell of it that failed.

    ``cell`` is its number among all cells, from 1 on (0: the notebook itself); ``traceback`` is plain text.
    """

    def __init__(self, message: str, cell: int = 0, traceback: str = "") -> None:
        super().__init__(message)
        self.cell = cell
        self.traceback = traceback


class NotebookClient:
    """A client of the notebook server at ``url`` (which ends in ``/``). Use it as a context manager.

    >>> with NotebookClient(server.url, server.token) as client:  # doctest: +SKIP
    ...     client.run("ttbar.ipynb", environment={"AGC_DATA": "root://..."})
    ...     plot = client.fetch_file("ttbar.png")
    """

    def __init__(self, url: str, token: str) -> None:
        self._socket_url = url.replace("http", "ws", 1)
        self._headers = {"Authorization": f"token {token}"}
        # No proxy of the user's environment lies between this machine and its server.
        self._http = httpx.Client(base_url=url, headers=self._headers, timeout=REQUEST_SECONDS, trust_env=False)

    def __enter__(self) -> NotebookClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def run(
        self,
        path: str,
        *,
        environment: Mapping[str, str] | None = None,
        cell_seconds: float = CELL_SECONDS,
        on_cell: Callable[[int, int], None] = lambda _number, _of: None,
    ) -> dict[str, Any]:
        """Run all code cells in order in a new kernel, write the outputs back to the notebook, and return it.

        ``environment`` is set in the kernel first. ``on_cell`` is told the number of each cell before it runs, and of
        how many. Raises :class:`NotebookError` when a cell fails, takes longer than ``cell_seconds``, or its kernel
        dies; the outputs up to there are written back as well.
        """
        notebook: dict[str, Any] = self._request("GET", f"api/contents/{quote(path)}").json()["content"]
        kernel_name = notebook["metadata"].get("kernelspec", {}).get("name", "python3")
        asked = {"path": path, "name": path.rpartition("/")[2], "type": "notebook", "kernel": {"name": kernel_name}}
        session = self._request("POST", "api/sessions", asked).json()
        try:
            with _Kernel(f"{self._socket_url}api/kernels/{session['kernel']['id']}/channels", self._headers) as kernel:
                if environment:
                    code = f"import os\nos.environ.update({dict(environment)!r})"
                    _run_cell(kernel, {"source": code, "outputs": []}, 0, cell_seconds, silent=True)
                try:
                    for number, cell in enumerate(notebook["cells"], start=1):
                        if cell["cell_type"] == "code":
                            on_cell(number, len(notebook["cells"]))
                            _run_cell(kernel, cell, number, cell_seconds)
                finally:
                    document = {"type": "notebook", "format": "json", "content": notebook}
                    self._request("PUT", f"api/contents/{quote(path)}", document)
        finally:
            self._request("DELETE", f"api/sessions/{session['id']}")
        return notebook

    def run_code(self, code: str, path: str, *, environment: Mapping[str, str] | None = None) -> None:
        """Run Python code in a kernel of its own, as the one cell of a new notebook at ``path``.

        Raises :class:`NotebookError` as :meth:`run` does.
        """
        cell: dict[str, Any] = {"cell_type": "code", "id": "code", "source": code, "metadata": {}}
        cell |= {"outputs": [], "execution_count": None}
        notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        document = {"type": "notebook", "format": "json", "content": notebook}
        self._request("PUT", f"api/contents/{quote(path)}", document)
        self.run(path, environment=environment)

    def fetch_file(self, path: str) -> bytes:
        """Return the content of a file below the server's root directory."""
        return self._request("GET", f"files/{quote(path)}").content

    def _request(self, method: str, path: str, document: object = None) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=document)
        except httpx.TransportError as error:
            raise NotebookError(f"the notebook server does not answer: {error}") from error
        if not answer.is_success:
            raise NotebookError(f"the notebook server answered {method} {path} with status {answer.status_code}")
        return answer


class _Kernel:
    """The WebSocket of one kernel."""

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        self._session = uuid.uuid4().hex
        try:
            self._socket = websocket.create_connection(
                address, header=dict(headers), timeout=REQUEST_SECONDS, http_no_proxy=["*"]
            )
        except (OSError, websocket.WebSocketException) as error:
            raise NotebookError(f"the notebook's kernel can't be reached: {error}") from error

    def __enter__(self) -> _Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def execute(self, code: str, *, silent: bool) -> str:
        """Send code to be run and return the message's id."""
        message_id = uuid.uuid4().hex
        header = {"msg_id": message_id, "msg_type": "execute_request", "username": "", "session": self._session}
        content = {"code": code, "silent": silent, "store_history": not silent, "allow_stdin": False}
        message = {"header": {**header, "version": _PROTOCOL}, "parent_header": {}, "metadata": {}, "content": content}
        self._socket.send(json.dumps({**message, "channel": "shell"}))
        return message_id

    def messages(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield what the kernel says; raise :class:`TimeoutError` when ``seconds`` are over."""
        deadline = time.monotonic() + seconds
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            try:
                frame = self._socket.recv()
            except websocket.WebSocketTimeoutException as error:
                raise TimeoutError from error
            if isinstance(frame, str) and frame:  # binary ones carry the buffers of widgets
                yield json.loads(frame)


def _run_cell(kernel: _Kernel, cell: dict[str, Any], number: int, seconds: float, *, silent: bool = False) -> None:
    """Run a cell and put into it what it says, as nbformat 4 wants it."""
    outputs: list[dict[str, Any]] = []
    cell["outputs"], cell["execution_count"] = outputs, None
    source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
    try:
        message_id = kernel.execute(source, silent=silent)
        for message in kernel.messages(seconds):
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] in ("restarting", "dead"):
                raise NotebookError(f"the kernel died in cell {number}: it may have run out of memory", number)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind == "execute_input":
                cell["execution_count"] = content["execution_count"]
            elif kind == "clear_output":
                outputs.clear()
            else:
                add_output(outputs, kind, content)
    except TimeoutError as error:
        raise NotebookError(f"cell {number} has not ended after {seconds:.0f} s", number) from error
    except (OSError, websocket.WebSocketException) as error:
        raise NotebookError(f"the connection to the kernel broke in cell {number}: {error}", number) from error
    for output in outputs:
        if output["output_type"] == "error":
            traceback = without_colours("\n".join(output["traceback"]))
            raise NotebookError(f"cell {number} failed: {output['ename']}: {output['evalue']}", number, traceback)


def add_output(outputs: list[dict[str, Any]], kind: str, content: Mapping[str, Any]) -> None:
    """Add what one message of a kernel shows to a cell's outputs, in the form of nbformat 4."""
    if kind == "stream":
        if outputs and outputs[-1]["output_type"] == "stream" and outputs[-1]["name"] == content["name"]:
            outputs[-1]["text"] += content["text"]
        else:
            outputs.append({"output_type": "stream", "name": content["name"], "text": content["text"]})
    elif kind == "error":
        fields = {name: content[name] for name in ("ename", "evalue", "traceback")}
        outputs.append({"output_type": "error", **fields})
    elif kind in ("display_data", "execute_result"):
        output = {"output_type": kind, "data": content["data"], "metadata": content["metadata"]}
        if kind == "execute_result":
            output["execution_count"] = content["execution_count"]
        outputs.append(output)
