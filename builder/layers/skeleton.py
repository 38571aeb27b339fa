"""The files that make a directory a Python environment before anything is installed in it (PEP 405)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.layers.layer import Entry

if TYPE_CHECKING:
    from builder.layers.wheel import InstallTarget
    from builder.target import PythonTarget


def environment_entries(install: InstallTarget, python: PythonTarget, interpreter: str) -> list[Entry]:
    """Return what ``python -m venv --without-pip`` would write for an environment of ``interpreter`` (absolute)."""
    home = interpreter.rpartition("/")[0]
    configuration = f"home = {home}\ninclude-system-site-packages = false\nversion = {python.python_full}\n"
    scripts = install.scripts
    return [
        Entry(f"{install.data}/pyvenv.cfg", "file", configuration.encode()),
        Entry(f"{install.data}/lib64", "symlink", target="lib"),
        Entry(install.purelib, "directory", mode=0o755),
        Entry(f"{scripts}/python", "symlink", target=interpreter),
        Entry(f"{scripts}/python3", "symlink", target="python"),
        Entry(f"{scripts}/python{python.python}", "symlink", target="python"),
    ]
