"""The smoke test's part inside the image: imports packages, runs tests and notebooks, says what came of each.

It is given to the image's Python on standard input, so it uses the standard library only and imports nothing of ours.
Its one argument is a JSON object: ``packages`` (distributions to import, without the modules ``left_out``),
``notebooks`` (paths to execute), ``tests`` (a directory of tests, or ``""``). For each check it writes a line
``CASABINDER-CHECK {"name", "passed", "said"}``, and at the end ``CASABINDER-DONE``: whoever does not read that knows
that it died. The Python of an image may be 3.8.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

CHECK = "CASABINDER-CHECK "
DONE = "CASABINDER-DONE"
_NOT_A_PACKAGE = {"bin", "doc", "docs", "example", "examples", "test", "tests"}
_SAID = 2000
_NOTEBOOK_SECONDS = 600


def modules_of(name: str) -> list[str]:
    """Return the modules to import for a distribution: the one of its name, else all that others may import."""
    distribution = importlib.metadata.distribution(name)
    found = set()
    for path in distribution.files or ():
        top = path.parts[0]
        if len(path.parts) == 2 and path.parts[1] == "__init__.py":
            found.add(top)
        elif len(path.parts) == 1 and top.endswith((".py", ".so")):
            found.add(top.partition(".")[0])
    found = {top for top in found if top.isidentifier() and not top.startswith("_") and top not in _NOT_A_PACKAGE}
    same = {top for top in found if _plain(top) == _plain(name)}
    return sorted(same or found)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "", name).lower()


def import_package(name: str, left_out: Collection[str] = ()) -> str:
    """Import what a distribution brings; return an empty text, or why it can't be imported."""
    try:
        for module in modules_of(name):
            if module not in left_out:
                importlib.import_module(module)
    except importlib.metadata.PackageNotFoundError:
        return "it is not installed"
    except BaseException as error:  # noqa: BLE001  # modules raise anything, SystemExit too
        return f"{type(error).__name__}: {error}"
    return ""


def run(command: list[str]) -> str:
    """Run a command, pass on what it writes, and return an empty text, or the end of it if the command failed."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError as error:
        return str(error)
    said = done.stdout.decode(errors="replace")
    sys.stdout.write(said)
    return "" if done.returncode == 0 else said.strip()[-_SAID:] or f"exit status {done.returncode}"


def execute(notebook: str) -> str:
    """Execute a notebook with the server's nbconvert where there is one; the result is thrown away."""
    server = "/srv/jupyter/bin/python"
    python = server if Path(server).exists() else sys.executable
    with tempfile.TemporaryDirectory() as scratch:
        command = [python, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", scratch]
        return run([*command, f"--ExecutePreprocessor.timeout={_NOTEBOOK_SECONDS}", "--", notebook])


def run_tests(directory: str) -> Iterator[tuple[str, str]]:
    """Yield (name, what went wrong) for what is in a directory of tests: pytest files, scripts, notebooks.

    A directory that has none of these went wrong too: somebody means to test, and nothing is.
    """
    files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
    for_pytest = any(re.fullmatch(r"(test_.*|.*_test)\.py", path.name) for path in files)
    if not for_pytest and not any(path.suffix in (".ipynb", ".sh") for path in files):
        yield directory, "it has no test_*.py, *_test.py, *.sh or notebook"
    if for_pytest:
        try:
            importlib.metadata.version("pytest")
        except importlib.metadata.PackageNotFoundError:
            yield directory, "its tests need pytest, which the image does not have: add pytest to the requirements"
        else:
            yield directory, run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", directory])
    for path in files:
        if path.suffix == ".ipynb":
            yield str(path), execute(str(path))
        elif path.suffix == ".sh":
            yield str(path), run(["/bin/sh", str(path)])


def main(plan: Mapping[str, Any]) -> None:
    """Run all checks of a plan and write what came of them."""

    def tell(name: str, said: str) -> None:
        line = json.dumps({"name": name, "passed": not said, "said": said[-_SAID:]})
        sys.stdout.write(f"\n{CHECK}{line}\n")
        sys.stdout.flush()

    for name in plan["packages"]:
        tell("import " + name, import_package(name, plan["left_out"]))
    for notebook in plan["notebooks"]:
        tell(notebook, execute(notebook))
    if plan["tests"]:
        for name, said in run_tests(plan["tests"]):
            tell(name, said)
    sys.stdout.write(DONE + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
