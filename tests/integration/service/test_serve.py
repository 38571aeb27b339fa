"""``casabinder serve``: each thing that may be wrong is one sentence, and a registry of its own where none answers."""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from builder.container.engine import docker
from launcher.cli import main
from launcher.local_registry import answers, start_registry
from launcher.security.keys import Keys
from launcher.serve import _only_one
from launcher.serve_checks import bridge_address
from launcher.site_config import cache_directory, load_site
from tests.testbed.launching import build_repository, engine_answers, open_facility
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache in which only the proxy is installed."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tools").symlink_to(cache_directory() / "tools")
    registry = load_site().registry
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CASABINDER_SITE", raising=False)
    (tmp_path / "cache" / "site.yaml").write_text(json.dumps({"registry": registry, "service": {"port": 0}}))
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path / "cache"
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def refused(cache: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that starts a facility with changes of its site, and returns the one sentence that it ends with."""

    def serve(*arguments: str, **changes: Any) -> str:
        site = {**json.loads((cache / "site.yaml").read_text()), **changes}
        (cache / "site.yaml").write_text(json.dumps(site))
        assert main(["serve", *arguments]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("casabinder: "), said
        return said[-1]

    return serve


@pytest.fixture
def somebody() -> Iterator[int]:
    """A port that somebody listens on who says nothing of use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_taken(refused: Callable[..., str], somebody: int) -> None:
    assert f"port {somebody} of 127.0.0.1 is taken" in refused("--port", str(somebody))


def test_an_address_of_another_machine(refused: Callable[..., str]) -> None:
    assert "192.0.2.1 is no address of this machine" in refused(service={"listen": "192.0.2.1", "port": 8000})


def test_no_docker(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    assert "the Docker Engine does not run: start it with scripts/bootstrap" in refused()


def test_no_proxy(refused: Callable[..., str], cache: Path) -> None:
    (cache / "tools").unlink()
    assert "proxy is not installed" in refused()


def test_an_entry_that_is_unknown(refused: Callable[..., str]) -> None:
    assert "site.yaml: service.prot" in refused(service={"prot": 1})


def test_a_directory_as_registry(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "Docker can't start an image of an OCI layout" in refused(registry=f"oci:{tmp_path / 'images'}")


def test_a_base_that_is_nowhere(refused: Callable[..., str]) -> None:
    host = load_site().registry.partition("/")[0]
    assert "correct `base` in site.yaml" in refused(base=f"{host}/nobody/nothing:1")
    assert "there is no base 'cofea'" in refused(base="cofea")


def test_kubernetes(refused: Callable[..., str]) -> None:
    assert "`hub.spawner: kubernetes` is for a cluster" in refused(hub={"spawner": "kubernetes"})


def test_a_secret_that_others_can_read(refused: Callable[..., str], cache: Path) -> None:
    Keys.load(cache / "service" / "secret")
    (cache / "service" / "secret").chmod(0o644)
    assert "can be read by others; run `chmod 600" in refused()


def test_a_second_one(refused: Callable[..., str], cache: Path) -> None:
    with _only_one(cache):
        assert f"`casabinder serve` runs already with the cache {cache}" in refused()


def test_a_database_that_does_not_answer(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = refused(service={"port": 0, "database": f"postgresql+psycopg://nobody@127.0.0.1:{port}/nothing"})
    assert "the launch service does not start: " in said
    assert "database" in said


def test_a_home_that_would_hide_the_repository(refused: Callable[..., str], cache: Path) -> None:
    assert "would hide" in refused(hub={"mode": "login", "home": {"path": "/srv"}})
    assert not (cache / "run" / "hub.pid").exists()


@pytest.mark.skipif(not registry_is_installed(), reason="no docker-registry: run scripts/bootstrap")
def test_a_registry_is_run_where_none_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = ("127.0.0.1", int(server.getsockname()[1]))
    assert not answers(address)
    registry = start_registry(address, tmp_path, tmp_path / "registry.log")
    try:
        assert httpx.get(f"http://{address[0]}:{address[1]}/v2/", trust_env=False).status_code == 200
        secret = (tmp_path / "run" / "registry.yml").read_text()
    finally:
        assert registry.end(20)
    again = start_registry(address, tmp_path, tmp_path / "registry.log")
    assert again.end(20)
    assert (tmp_path / "run" / "registry.yml").read_text() == secret


def test_containers_reach_this_machine_at_an_address_of_its_own() -> None:
    # An engine that has never been started twice does not state it (Docker 20.10).
    with socket.create_server((bridge_address(), 0)) as server:
        address, port = server.getsockname()
        command = f"import socket; socket.create_connection(({address!r}, {port}), 10)"
        with open_facility() as context:
            image = build_repository(context, "reaches", {})
        docker("run", "--rm", image.image, "/srv/env/bin/python", "-c", command)
