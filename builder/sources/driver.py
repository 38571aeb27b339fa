"""Runs in the sandbox, as its first process: takes the build in on standard input, gives the wheel to standard output.

It is given to the base's own Python as text, so it uses the standard library only. What comes in is a tar (gzip) of
``build/``: the source, the build environment, this file, and ``instructions.json``. What goes out is one line of JSON
and, after ``{"wheel": NAME, "size": BYTES}``, the wheel. What the build itself writes goes to standard error.

The build backend's hooks (PEP 517) run in a process of their own, with this file as its program and the build
environment as its Python, like pip and ``build`` do.
"""

from __future__ import annotations

import gzip
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path("/build")
ENVIRONMENT = {
    "PATH": f"{ROOT}/env/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": f"{ROOT}/home",
    "TMPDIR": f"{ROOT}/scratch",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PIP_NO_INDEX": "1",
    "SOURCE_DATE_EPOCH": "315532800",
}


def main() -> None:
    """Take the build in, run it, and give out what came of it."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.umask(0o022)
    with gzip.GzipFile(fileobj=sys.stdin.buffer) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        tar.extractall("/", **_filter("fully_trusted"))  # noqa: S202  # casabinder wrote it
    instructions = json.loads((ROOT / "instructions.json").read_text())
    signal.signal(signal.SIGALRM, lambda *_: os._exit(124))  # if nobody is there any more to end it from outside
    signal.alarm(instructions["seconds"])
    wheel = None
    try:
        project = _project(instructions)
        _make_environment()
        answer, wheel = _build(instructions, project)
    except _RefusedError as refused:
        answer = refused.answer
    sink.write(json.dumps(answer).encode() + b"\n")
    if wheel is not None:
        with wheel.open("rb") as file:
            shutil.copyfileobj(file, sink)
    sink.flush()
    os._exit(0)


class _RefusedError(Exception):
    def __init__(self, **answer: Any) -> None:
        super().__init__(answer)
        self.answer = answer


def _project(instructions: dict[str, Any]) -> Path:
    """Return the project's directory, after an archive has been unpacked."""
    source = ROOT / "source"
    if archive := instructions["archive"]:
        packed = ROOT / archive
        try:
            if archive.endswith(".zip"):
                with zipfile.ZipFile(packed) as zipped:
                    zipped.extractall(source)  # noqa: S202  # it does not leave the directory, nor the sandbox
            else:
                with tarfile.open(packed) as tar:
                    tar.extractall(source, **_filter("data"))  # noqa: S202  # as above
        except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
            raise _RefusedError(error="archive", message=str(error)) from error
        packed.unlink()
        inside = list(source.iterdir())
        if len(inside) == 1 and inside[0].is_dir():
            source = inside[0]
    project = source / instructions["subdirectory"] if instructions["subdirectory"] else source
    if not any((project / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise _RefusedError(error="no project")
    return project


def _filter(name: str) -> dict[str, Any]:
    return {"filter": name} if hasattr(tarfile, "data_filter") else {}  # Debian 12's Python 3.11.2 has none


def _make_environment() -> None:
    """Make the directory that holds the build requirements a Python environment (PEP 405)."""
    environment = ROOT / "env"
    interpreter = Path(sys._base_executable)  # type: ignore[attr-defined]  # as venv does
    (environment / "bin").mkdir(parents=True, exist_ok=True)
    (environment / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (environment / "bin" / name).symlink_to(interpreter)
    for name in ("home", "scratch", "wheel"):
        (ROOT / name).mkdir()


def _build(instructions: dict[str, Any], project: Path) -> tuple[dict[str, Any], Path | None]:
    needed = _hook(instructions, project, "get_requires_for_build_wheel", optional=True) or []
    if set(needed) - set(instructions["provided"]):
        return {"requires": needed}, None
    name = str(_hook(instructions, project, "build_wheel", f"{ROOT}/wheel"))
    wheel = ROOT / "wheel" / Path(name).name
    if not wheel.is_file() or wheel.is_symlink():
        raise _RefusedError(error="no wheel", message=name)
    return {"wheel": wheel.name, "size": wheel.stat().st_size}, wheel


def _hook(instructions: dict[str, Any], project: Path, name: str, *arguments: str, optional: bool = False) -> Any:
    result = ROOT / "result.json"
    result.unlink(missing_ok=True)
    question = {**instructions, "hook": name, "arguments": arguments, "optional": optional, "result": str(result)}
    done = subprocess.run(
        [f"{ROOT}/env/bin/python", str(ROOT / "driver.py"), json.dumps(question)],
        cwd=project,
        env={**ENVIRONMENT, **instructions["environment"]},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode or not result.is_file():
        raise _RefusedError(error="failed", status=done.returncode)
    answer = json.loads(result.read_text())
    if "backend" in answer:
        raise _RefusedError(error="backend", message=answer["backend"])
    return answer["value"]


def run_hook(question: dict[str, Any]) -> NoReturn:
    """Call one hook of the backend and write what it returns to a file."""
    sys.path[0:1] = [str(Path(path).absolute()) for path in question["backend_path"]]
    module, _, attribute = question["backend"].partition(":")
    answer: dict[str, Any]
    try:
        backend: Any = importlib.import_module(module)
        for part in attribute.split(".") if attribute else ():
            backend = getattr(backend, part)
    except (ImportError, AttributeError) as error:
        answer = {"backend": str(error)}
    else:
        hook = getattr(backend, question["hook"], None)
        if hook is None and question["optional"]:
            answer = {"value": None}
        elif hook is None:
            answer = {"backend": f"{question['backend']} has no {question['hook']}"}
        else:
            answer = {"value": hook(*question["arguments"])}
    Path(question["result"]).write_text(json.dumps(answer))
    sys.exit(0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_hook(json.loads(sys.argv[1]))
    main()
