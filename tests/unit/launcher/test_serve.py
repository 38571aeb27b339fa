"""What ``casabinder serve`` decides and refuses before it starts anything."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from launcher import serve
from launcher.local_registry import loopback_address, start_registry
from launcher.serve import with_address
from launcher.serve_checks import check_port, free_port, proxy_command
from launcher.site_config import Service, Site
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_address_is_the_sites_unless_a_port_is_given() -> None:
    site = Site(service=Service(port=8100, url="https://launch.example.org"))
    assert with_address(site, None, None).service.url == "https://launch.example.org"
    assert with_address(site, 8200, None).service.url == "http://127.0.0.1:8200"
    assert with_address(Site(), None, None).service.url == "http://127.0.0.1:8000"
    assert with_address(Site(), None, "login").hub.mode == "login"


def test_port_0_is_a_free_one() -> None:
    service = with_address(Site(), 0, None).service
    assert service.port
    assert service.url == f"http://127.0.0.1:{service.port}"


def test_a_port_is_taken_again_if_it_is_free() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert free_port("127.0.0.1", port) != port
    assert free_port("127.0.0.1", port) == port


def test_a_port_that_is_taken_or_is_nowhere_here_is_a_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(CasabinderError, match=f"port {port} of 127.0.0.1 is taken: choose another with --port"):
            check_port("127.0.0.1", port)
    with pytest.raises(CasabinderError, match=r"192\.0\.2\.1 is no address of this machine"):
        check_port("192.0.2.1", port)


def test_a_cache_is_served_once(tmp_path: Path) -> None:
    with serve._only_one(tmp_path):
        assert (tmp_path / "run" / "serve.pid").read_text().startswith(f"{os.getpid()} ")
        with pytest.raises(CasabinderError, match=rf"runs already .*process {os.getpid()}"), serve._only_one(tmp_path):
            pass
    assert not (tmp_path / "run" / "serve.pid").exists()
    with serve._only_one(tmp_path):
        pass


def test_a_proxy_that_is_not_installed_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CasabinderError, match=r"proxy is not installed in .*: run scripts/bootstrap"):
        proxy_command(tmp_path)


@pytest.mark.parametrize(
    ("registry", "address"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("localhost:5000", ("127.0.0.1", 5000)),
        ("[::1]:5000", ("::1", 5000)),
        ("registry.example.org:5000", None),
        ("registry.example.org", None),
        ("192.0.2.1:5000", None),
    ],
)
def test_a_registry_of_this_machine_is_known_by_its_name(registry: str, address: tuple[str, int] | None) -> None:
    assert loopback_address(registry) == address


def test_a_registry_that_cannot_be_run_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CasabinderError, match=r"no registry answers at 127\.0\.0\.1:9, .*: run scripts/bootstrap"):
        start_registry(("127.0.0.1", 9), tmp_path, tmp_path / "log")
