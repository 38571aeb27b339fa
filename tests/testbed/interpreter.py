"""The files of an interpreter in a rootfs, for tests: this Python in the place of the base's own."""

from __future__ import annotations

import sys
from pathlib import Path

# The place of the dynamic loader is taken by a script that drops the loader's arguments and runs this Python.
LOADER_SCRIPT = f"""#!/bin/sh
shift 3
unset PYTHONHOME
exec {Path(sys.executable).resolve()} "$@"
"""
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
INTERPRETER_FILES = {
    "usr/bin/python3.13": "this one",
    f"{_LIBRARIES}/ld-linux-x86-64.so.2": LOADER_SCRIPT,
    **{f"{_LIBRARIES}/{name}": "" for name in ("libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1")},
    "usr/lib/python3.13/encodings/utf_8.py": "",
}
