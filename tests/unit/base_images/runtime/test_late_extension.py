from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from casabinder_runtime import late_extension
from casabinder_runtime.late_extension import LateExtension
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application, ErrorHandler, RequestHandler

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_server.serverapp import ServerApp

NAME = "extension_that_is_loaded_late"
SOURCE = """
from tornado.web import RequestHandler

class Clusters(RequestHandler):
    pass

def load_jupyter_server_extension(server):
    server.loads += 1
    server.web_app.add_handlers(".*$", [(server.base_url + "dask/clusters", Clusters)])
"""


class Other(RequestHandler):
    pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A server whose environment has the extension."""
    (tmp_path / f"{NAME}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(late_extension, "EXTENSION", NAME)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    application = Application([("/user/x/api", Other)], default_handler_class=ErrorHandler)
    return SimpleNamespace(base_url="/user/x/", web_app=application, loads=0)


def handler_of(server: SimpleNamespace, path: str) -> str:
    line = RequestStartLine("GET", path, "HTTP/1.1")
    headers = HTTPHeaders({"Host": "localhost"})
    request = HTTPServerRequest(headers=headers, start_line=line, connection=cast("Any", SimpleNamespace()))
    return str(server.web_app.find_handler(request).handler_class.__name__)


def test_it_is_loaded_by_the_first_request_that_is_for_it(server: SimpleNamespace) -> None:
    late = LateExtension(cast("ServerApp", server))
    assert handler_of(server, "/user/x/api") == "Other"
    asyncio.run(late.prepare())
    assert (server.loads, NAME in sys.modules) == (0, True)
    assert handler_of(server, "/user/x/dask/clusters") == "Clusters"
    assert handler_of(server, "/user/x/dask/unknown") == "ErrorHandler"
    assert handler_of(server, "/user/x/dask/clusters") == "Clusters"
    assert server.loads == 1


def test_a_server_without_it_has_no_such_route(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_extension, "EXTENSION", "no_such_extension")
    late = LateExtension(cast("ServerApp", server))
    asyncio.run(late.prepare())
    assert handler_of(server, "/user/x/dask/clusters") == "ErrorHandler"
