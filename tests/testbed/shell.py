"""A shell and a few programs of this machine as entries of a base's layer: containers of it start at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

from builder.layers.layer import Entry


def shell_entries(*programs: str) -> list[Entry]:
    """Return ``/bin/sh``, ``programs`` of this machine's ``/bin``, the libraries they need, and ``/tmp``."""
    names = {"sh": Path("/bin/dash"), **{name: Path("/bin") / name for name in programs}}
    files = {f"bin/{name}": path.resolve() for name, path in names.items()}
    for path in list(files.values()):
        linked = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=True).stdout
        files |= {word.strip("/"): Path(word).resolve() for word in linked.split() if word.startswith("/")}
    found = [Entry(name, "file", path.read_bytes(), mode=0o755) for name, path in sorted(files.items())]
    return [Entry("tmp", "directory", mode=0o1777), *found]
