from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from builder.container.engine import EngineError, docker, docker_lines, docker_pipe, explain, explain_gpus, explain_pull

if TYPE_CHECKING:
    from pathlib import Path

DENIED = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.41/info": dial unix /var/run/docker.sock: connect: permission denied'
)
NOT_RUNNING = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
NO_GPU = 'Error response from daemon: could not select device driver "" with capabilities: [[gpu]]\n'
ALLOCATED = (
    "Error response from daemon: driver failed programming external connectivity on endpoint x (123): "
    "Bind for 127.0.0.1:8899 failed: port is already allocated\nError: failed to start containers: x"
)
IN_USE = (
    "Error response from daemon: driver failed programming external connectivity on endpoint x (123): "
    "Error starting userland proxy: listen tcp4 127.0.0.1:8899: bind: address already in use"
)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (DENIED, "you may not use Docker on this machine"),
        (NOT_RUNNING, "the Docker Engine does not run"),
        (ALLOCATED, "port 8899 of this machine is taken"),
        (IN_USE, "port 8899 of this machine is taken"),
        ("Error response from daemon: mkdir /x: no space left on device", "the disk that Docker keeps its images on"),
        (
            "Error response from daemon: Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
            "this machine has 2 processors only",
        ),
        (
            "Error response from daemon: something new\n\nRun 'docker x --help' for more information",
            "`docker x` failed: something new",
        ),
        (NO_GPU, "Docker can't give the server a GPU here: this machine needs NVIDIA's driver and container toolkit"),
        ("", "`docker x` failed: it did not say why"),
    ],
)
def test_what_docker_says_becomes_one_sentence(said: str, sentence: str) -> None:
    assert explain(said, "docker x").startswith(sentence)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            'Get "http://h:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
            "the registry does not answer",
        ),
        ("dial tcp: lookup registry.example: no such host", "the registry does not answer"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            "the registry refuses it",
        ),
        (
            "manifest for x@sha256:1 not found: manifest unknown: manifest unknown",
            "the registry does not have it any more",
        ),
        ("http: server gave HTTP response to HTTPS client", "the registry speaks plain HTTP"),
        (f"x\n{NOT_RUNNING}", "the Docker Engine does not run"),
    ],
)
def test_why_an_image_cannot_be_pulled(said: str, sentence: str) -> None:
    assert sentence in explain_pull(said, "h:5000/x@sha256:1")


def test_no_docker_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="there is no docker command here"):
        docker("ps")
    with pytest.raises(EngineError, match="there is no docker command here"):
        next(docker_lines("logs", "x"))


def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "docker"
    fake.write_text(f"#!/bin/sh\necho '{NOT_RUNNING}' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="the Docker Engine does not run"):
        docker("ps")
    with pytest.raises(EngineError, match="the Docker Engine does not run"):
        list(docker_lines("logs", "x"))


def test_lines_come_as_they_are_written_and_a_command_nobody_listens_to_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho one\nexec /bin/sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = docker_lines("logs", "--follow", "x")
    assert next(lines) == "one"
    lines.close()  # type: ignore[attr-defined]


def test_a_command_that_takes_too_long_is_ended_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\ntrap 'echo asked; exit' TERM\nwhile :; do sleep 0.01; done\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    said: list[str] = []
    with pytest.raises(TimeoutError, match=r"`docker run` took more than 0 s"):
        said += docker_lines("run", "x", seconds=0.2)
    assert said == []


def pipe(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str, feed: bytes = b"in", **options: Any) -> bytes:
    """Run ``docker_pipe`` with a command that does as ``script`` says."""
    fake = directory / "docker"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/bin:/usr/bin")
    output = io.BytesIO()
    docker_pipe("run", feed=lambda sink: sink.write(feed), take=output, **{"most": 100, "seconds": 60, **options})
    return output.getvalue()


def test_a_pipe_goes_through_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert pipe(tmp_path, monkeypatch, "echo log >&2; exec cat", say=said.append) == b"in"
    assert said == ["log"]
    assert pipe(tmp_path, monkeypatch, "echo out", feed=bytes(2**20)) == b"out\n"  # it need not read what it is fed


def test_a_pipe_that_writes_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"`docker run` wrote more than 100 bytes"):
        pipe(tmp_path, monkeypatch, "exec cat /dev/zero")


def test_a_pipe_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeoutError, match=r"`docker run` took more than 0 s"):
        pipe(tmp_path, monkeypatch, "exec sleep 60", seconds=0.1)


def test_a_pipe_that_fails_says_with_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"`docker run` failed: bad") as caught:
        pipe(tmp_path, monkeypatch, "echo bad >&2; exit 125")
    assert caught.value.status == 125


def test_what_feeds_a_pipe_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(tmp_path, monkeypatch, "exec cat")

    def broken(_: object) -> None:
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        docker_pipe("run", feed=broken, take=io.BytesIO(), most=100, seconds=60)


def test_only_what_is_about_gpus_is_explained_so() -> None:
    assert explain_gpus(NO_GPU).startswith("Docker can't give the server a GPU here")
    assert explain_gpus("nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1")
    assert explain_gpus(IN_USE) == ""
