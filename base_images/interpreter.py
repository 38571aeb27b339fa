"""Takes the Python interpreter out of a rootfs layer: the few files with which it can compile on any machine."""

from __future__ import annotations

import posixpath
import re
import tarfile
from typing import TYPE_CHECKING

from builder.layers.bytecode import HOME, LIBRARIES, PROGRAM, interpreter_archive
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

_TRIPLET = "usr/lib/x86_64-linux-gnu"
_NEEDED = ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1")


def take_interpreter(rootfs: Path, python: str) -> bytes:
    """Return the archive of Debian's ``python`` (``X.Y``) from the rootfs layer at ``rootfs`` (a gzipped tar).

    Raises :class:`CasabinderError` if the interpreter or one of the libraries it is linked with is not there.
    """
    program = f"usr/bin/python{python}"
    libraries = {f"{_TRIPLET}/{name}": f"{LIBRARIES}/{name}" for name in _NEEDED}
    wanted = re.compile(
        rf"{re.escape(program)}|{_TRIPLET}/(ld-linux|libc\.|libm\.|libz\.|libexpat\.)[^/]*"
        rf"|usr/lib/python{re.escape(python)}/encodings/[a-z0-9_]+\.py"
    )
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    with tarfile.open(rootfs, "r:gz") as tar:
        for member in tar:
            if not wanted.fullmatch(member.name):
                continue
            if member.issym():
                links[member.name] = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            elif (file := tar.extractfile(member)) is not None:
                files[member.name] = file.read()
    found = {}
    for path, name in {program: PROGRAM, **libraries}.items():
        target = links.get(path, path)
        if target not in files:
            raise CasabinderError(f"the root file system has no /{path}, which its Python needs to make bytecode")
        found[name] = files[target]
    library = f"usr/lib/python{python}/"
    found |= {
        f"{HOME}/lib/python{python}/{path.removeprefix(library)}": data
        for path, data in files.items()
        if path.startswith(library)
    }
    return interpreter_archive(found.items())
