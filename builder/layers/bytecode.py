"""Makes the bytecode of a layer's modules with the base's own interpreter, so that the first import compiles nothing.

The files of an image belong to root, so no Python in a container can write ``__pycache__`` there: without bytecode in
the layer, every server, kernel and worker compiles all it imports, each time it starts. ``pkg/core.py`` gets
``pkg/__pycache__/core.cpython-313.pyc`` in the same layer, and a whiteout of the package removes both.

No image is pulled for this. A base carries its interpreter as a small archive (program, loader, four libraries, text
encodings); it is unpacked once and run by its own loader, so it works on any x86-64 Linux and needs no container. It
compiles and never executes what it is given, within limits of memory and time. A module that it refuses (templates,
Python 2), dies on, or that has more than 4 MiB gets no bytecode; nor do modules in directories called ``tests`` or
``test``, which would be a third of all bytecode and which hardly anybody imports.

Bytecode is to be the same bytes on every machine:

- It is ``unchecked-hash`` (PEP 552): no time stamp, and Python does not compare it with the source.
- Its file name is the module's path in the image.
- ``marshal`` marks an object as shared by its reference count, which depends on what else the process has compiled.
  Version 2 of the format has no such marks, so each code object is written in it and read again: now nothing in it is
  shared but interned strings, which are always marked, and its file name, which is set to one object everywhere.
  Sets are ordered by hash, and the hash seed is 0.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import resource
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.layers.content import content_size, read_content
from builder.layers.errors import LayerError
from builder.layers.layer import Entry
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_MODULE = 4 * 1024 * 1024
"""Bytes of source beyond which a module gets no bytecode."""
LIBRARIES = "lib"
"""Where an interpreter's archive has its libraries; beside it are ``python`` and ``home``, a ``PYTHONHOME``."""
LOADER = f"{LIBRARIES}/ld-linux-x86-64.so.2"
PROGRAM = "python"
HOME = "home"

_MEMBER = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_UNCOMPILED = frozenset({"test", "tests"})
_MEMORY = 2 << 30
_CPU_SECONDS = 900
_SCRIPT = "compile.py"  # not given with -c, for which Python would want modules that the archive does without
_COMPILE = """
import sys, marshal, _imp
import _frozen_importlib_external
magic = _frozen_importlib_external.MAGIC_NUMBER
take, give = sys.stdin.buffer, sys.stdout.buffer
while head := take.read(8):
    path = take.read(int.from_bytes(head[:4], "little")).decode()
    source = take.read(int.from_bytes(head[4:], "little"))
    try:
        code = compile(source, "<module>", "exec", dont_inherit=True, optimize=0)
        code = marshal.loads(marshal.dumps(code, 2))
        _imp._fix_co_filename(code, path)
        check = _imp.source_hash(int.from_bytes(magic, "little"), source)
        made = magic + b"\\1\\0\\0\\0" + check + marshal.dumps(code)
    except Exception:
        made = b""
    give.write(len(made).to_bytes(4, "little") + made)
    give.flush()
"""


def identity(python_full: str) -> str:
    """Return what names the bytecode that CPython ``X.Y.Z`` makes as it is used here.

    The release decides, not the program's bytes: a distribution's security update of it compiles as it did before, so
    layers stay shared, and images can be put onto the patched base.
    """
    inputs = {
        "kind": "bytecode",
        "python": python_full,
        "script": _COMPILE,
        "largest": LARGEST_MODULE,
        "uncompiled": sorted(_UNCOMPILED),
    }
    return hashlib.sha256(canonical_json(inputs)).hexdigest()


@dataclass(frozen=True)
class Interpreter:
    """A base's Python (``X.Y``), unpacked in ``directory`` on this machine. Safe for many threads at once."""

    directory: Path
    python: str

    @classmethod
    def unpack(cls, archive: bytes, python: str, directory: Path) -> Interpreter:
        """Return the interpreter of ``archive`` (a tar, gzipped or not), unpacked at ``directory`` unless it is there.

        Raises :class:`LayerError` if the archive holds something else than plain files.
        """
        if not directory.exists():
            directory.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".interpreter-", dir=directory.parent))
            try:
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    for member in tar:
                        file = tar.extractfile(member) if member.isreg() else None
                        if file is None or not _MEMBER.fullmatch(member.name):
                            raise LayerError(f"the base's interpreter has an unusable file {member.name!r}")
                        place = scratch / member.name
                        place.parent.mkdir(parents=True, exist_ok=True)
                        place.write_bytes(file.read())
                        place.chmod(0o755)
                (scratch / _SCRIPT).write_text(_COMPILE, encoding="utf-8")
                with contextlib.suppress(OSError):  # another process was first
                    scratch.rename(directory)
            except tarfile.TarError as error:
                raise LayerError("the base's interpreter cannot be unpacked; build the base again") from error
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return cls(directory, python)

    def bytecode(self, entries: Iterable[Entry], site_packages: str) -> list[Entry]:
        """Return the bytecode files of the modules among ``entries`` that lie in ``site_packages``.

        Raises :class:`LayerError` when the interpreter cannot be run here, or a module is not what was announced.
        """
        modules = [
            (entry, path)
            for entry in entries
            if (path := bytecode_path(entry, site_packages, self.python)) and content_size(entry) <= LARGEST_MODULE
        ]
        if not modules:
            return []
        made = []
        with _Process(self) as process:
            for entry, path in sorted(modules, key=lambda module: module[1]):
                data = process.compile(f"/{entry.path}", b"".join(read_content(entry)))
                if data:
                    made.append(Entry(path, "file", data))
        return made


def bytecode_path(entry: Entry, site_packages: str, python: str) -> str:
    """Return where the bytecode of ``entry`` goes, relative to the image's root; "" if it is no module."""
    parent, _, name = entry.path.rpartition("/")
    inside = parent == site_packages or parent.startswith(f"{site_packages}/")
    if entry.kind != "file" or not inside or len(name) < 4 or not name.endswith(".py"):
        return ""
    if _UNCOMPILED.intersection(parent.split("/")):
        return ""
    cached = f"{name[:-3]}.cpython-{python.replace('.', '')}.pyc"
    return f"{parent}/__pycache__/{cached}" if len(cached.encode()) <= 255 else ""


class _Process:
    """The running interpreter. It is started anew when it dies on a module."""

    def __init__(self, interpreter: Interpreter) -> None:
        root = interpreter.directory
        self._command = [
            *(str(root / LOADER), "--library-path", str(root / LIBRARIES), str(root / PROGRAM)),
            *("-S", "-s", "-P", "-B", "-W", "ignore", "-X", "utf8", str(root / _SCRIPT)),
        ]
        self._environment = {"PYTHONHOME": str(root / HOME), "PYTHONHASHSEED": "0", "LC_ALL": "C"}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Process:
        if self._exchange("/probe.py", b"") is None:
            self._stop()
            raise LayerError(
                "the base's Python cannot be run on this machine to make bytecode: casabinder builds on x86-64 Linux"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def compile(self, path: str, source: bytes) -> bytes:
        """Return the bytecode of a module; b"" if it cannot be compiled."""
        made = self._exchange(path, source)
        if made is None:
            self._stop()
        return made or b""

    def _exchange(self, path: str, source: bytes) -> bytes | None:
        """Return the interpreter's answer, ``None`` if it died instead."""
        try:
            process = self._process = self._process or self._start()
            if process.stdin is None or process.stdout is None:
                return None
            name = path.encode()
            process.stdin.write(len(name).to_bytes(4, "little") + len(source).to_bytes(4, "little") + name + source)
            process.stdin.flush()
            head = process.stdout.read(4)
            size = int.from_bytes(head, "little")
            made = process.stdout.read(size) if len(head) == 4 else b""
            return made if len(head) == 4 and len(made) == size else None
        except OSError:
            return None

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command,
            env=self._environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe:
                        pipe.close()
            process.wait()


def interpreter_archive(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the archive of an interpreter's files, sorted; all of them may be executed."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()
