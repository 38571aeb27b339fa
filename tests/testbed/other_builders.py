"""Other surroundings for a builder: interpreters of other versions with its dependencies, and another user."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
NOBODY = 65534
_SOCKET = Path("/var/run/docker.sock")


def other_pythons() -> list[str]:
    """Return the interpreters of other versions that are installed here and could run the builder."""
    found = {shutil.which(f"python3.{minor}") for minor in range(11, 16)}
    found |= {str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python3")}
    versions: dict[str, str] = {}
    for python in sorted(filter(None, found)):
        ask = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        version = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
        if version.startswith("3.") and 11 <= int(version[2:]) != sys.version_info.minor:
            versions.setdefault(version, python)
    return list(versions.values())


def with_dependencies(python: str, directory: Path) -> str:
    """Return a Python like ``python`` that has the builder's dependencies."""
    subprocess.run([find_uv_bin(), "venv", "--quiet", "--python", python, str(directory)], check=True)
    interpreter = str(directory / "bin" / "python")
    lock = str(ROOT / "requirements.lock")
    subprocess.run([find_uv_bin(), "pip", "install", "--quiet", "--python", interpreter, "-r", lock], check=True)
    return interpreter


def nobody_can_build(python: str) -> bool:
    """Whether this process can become another user, and that user can read the checkout and run ``python``."""
    if os.getuid() != 0:
        return False
    command = [python, "-c", "import builder.build"]
    surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd="/", env=surroundings, user=NOBODY, capture_output=True, check=False)
    except PermissionError:  # the interpreter lies in somebody's home
        return False
    return done.returncode == 0


def engine_groups() -> list[int]:
    """Return the group whose members may use Docker here, if it is not root's own."""
    try:
        group = _SOCKET.stat().st_gid
        return [group] if group and grp.getgrgid(group) else []
    except (OSError, KeyError):
        return []
