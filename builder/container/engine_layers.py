"""Makes a layer of what a finished container has changed, as if nobody had ever run anything.

The engine says which paths changed (``docker diff``) and gives their files (``docker cp``, a tar per directory, not
``docker export``, which reads the whole image again: 14 s for a base of 1.8 GB). They become entries of the one layer
writer, so times, order, user names and compression are those of every layer. What only says when and where a step ran
is left out: the engine's own files, logs, caches, lock files, the sources of caches such as bytecode.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.container.engine import docker_bytes, docker_stream
from builder.layers.archive import check_path, parents
from builder.layers.errors import LayerError
from builder.layers.layer import Entry, Streamed
from builder.layers.section import FileSection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.layers.cache import LayerCache
    from builder.layers.layer import Layer

# Of logs and of what runs, Shiny Server's places are kept: it can't make them as the user, nor do without them.
_DROPPED = re.compile(
    r"(?!(var/log|run)/shiny-server)"
    r"((\.dockerenv|dev|proc|sys|run|tmp|root|var/(tmp|log|cache|run|lock)|var/lib/apt/(lists|periodic)|boot)(/.*)?"
    r"|etc/(hostname|hosts|resolv\.conf|mtab|machine-id|\.pwd\.lock|(passwd|shadow|group|gshadow|subuid|subgid)-)"
    r"|var/lib/(dpkg|apt)/(.*/)?([Ll]ock|lock-frontend|daily_lock|.*-old)"
    r"|home/[^/]+/(\.cache|\.npm|\.wget-hsts|\.bash_history|\.python_history|\.node_repl_history)(/.*)?"
    r"|(.*/)?__pycache__(/.*)?)"
)
# A changed path is fetched with all of the directory below one of these, so that a request is never too big.
_WIDE = ("usr", "var", "srv", "home", "opt")
_CHANGE = re.compile(r"([ACD]) /(.+)")
_PIECE = 1024 * 1024


@dataclass(frozen=True)
class Changes:
    """What ``docker diff`` says: ``there`` are paths (relative to the root) that were added or changed."""

    there: frozenset[str]
    gone: frozenset[str]


def layer_of(container: str, key: str, what: str, cache: LayerCache) -> Layer:
    """Return the layer of what a stopped container changed of its image, kept in ``cache`` under ``key``.

    Raises :class:`LayerError` for what a layer can't hold (devices, unusable names).
    """
    changes = read_changes(docker_bytes("diff", container))
    with tempfile.TemporaryDirectory(prefix="casabinder-step-") as scratch:
        spool = Path(scratch) / "contents"
        entries: list[Entry] = []
        with spool.open("wb") as sink:
            for root in copied_roots(changes.there):
                with docker_stream("cp", f"{container}:/{root}", "-") as stream:
                    entries += read_entries(stream, root, changes.there, sink, spool)
        found = {entry.path: entry for entry in entries}
        return cache.build(key, what, lambda: [*entries, *whiteouts_of(changes.gone, found)])


def read_changes(said: bytes) -> Changes:
    """Read the output of ``docker diff`` without what a layer leaves out."""
    there: set[str] = set()
    gone: set[str] = set()
    try:
        lines = said.decode().splitlines()
    except UnicodeDecodeError as error:
        raise LayerError("a step made a file whose name is not UTF-8; rename it") from error
    for line in lines:
        match = _CHANGE.fullmatch(line)
        if match is None:
            raise LayerError(f"a step made a file with a line break in its name, near {line[:100]!r}; rename it")
        kind, path = match.groups()
        if not is_dropped(path):
            (gone if kind == "D" else there).add(path)
    return Changes(frozenset(there), frozenset(gone))


def is_dropped(path: str) -> bool:
    """Return whether a layer leaves out the path (relative to the image's root)."""
    return _DROPPED.fullmatch(path) is not None


def copied_roots(paths: Iterable[str]) -> list[str]:
    """Return the paths to ask the engine for, so that every path of ``paths`` worth having lies in one of them.

    Directories such as ``/usr`` are not among them: that something in them changed says nothing of themselves.
    """
    roots = set()
    for path in paths:
        parts = path.split("/")
        if parts[0] not in _WIDE:
            roots.add(parts[0])
        elif len(parts) > 1:
            roots.add("/".join(parts[:2]))
    return sorted(roots)


def read_entries(stream: BinaryIO, root: str, wanted: frozenset[str], sink: BinaryIO, spool: Path) -> list[Entry]:
    """Read the tar of ``docker cp CONTAINER:/root -`` and return entries of the ``wanted`` paths in it.

    File contents are appended to ``sink``, which writes the file ``spool``; a hard link becomes a file of its own.
    """
    above = root.rpartition("/")[0]
    entries: list[Entry] = []
    contents: dict[str, Streamed] = {}
    offset = sink.tell()
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            path = _below(above, member.name)
            if path not in wanted:
                continue
            mode, uid, gid = member.mode & 0o7777, member.uid, member.gid
            if member.isdir():
                entries.append(Entry(path, "directory", mode=mode, uid=uid, gid=gid))
            elif member.issym():
                entries.append(Entry(path, "symlink", target=member.linkname, uid=uid, gid=gid))
            elif member.islnk():
                there = contents.get(_below(above, member.linkname))
                if there is None:
                    raise LayerError(f"/{path} is a hard link to a file that the step did not change; copy it instead")
                contents[path] = there
                entries.append(Entry(path, "file", there, mode=mode, uid=uid, gid=gid))
            elif member.isfile():
                source = tar.extractfile(member)
                while source is not None and (data := source.read(_PIECE)):
                    sink.write(data)
                contents[path] = Streamed(partial(_section, spool, offset, member.size), member.size)
                offset += member.size
                entries.append(Entry(path, "file", contents[path], mode=mode, uid=uid, gid=gid))
            elif member.ischr() or member.isblk():
                raise LayerError(f"a step made the device /{path}, which an image may not hold; remove it at its end")
    sink.flush()
    return entries


def _below(above: str, name: str) -> str:
    name = name.removeprefix("./").strip("/")
    return f"{above}/{name}" if above else name


def _section(spool: Path, offset: int, size: int) -> BinaryIO:
    return cast("BinaryIO", FileSection(spool, offset, size))


def whiteouts_of(gone: frozenset[str], found: dict[str, Entry]) -> list[Entry]:
    """Return whiteouts of what was deleted: only the topmost, and none below something that took its place."""
    entries = []
    for path in sorted(gone):
        check_path(path)
        if path in found or any(above in gone for above in parents(path)):
            continue
        if all(found[above].kind == "directory" for above in parents(path) if above in found):
            entries.append(Entry(path, "whiteout", mode=0))
    return entries
