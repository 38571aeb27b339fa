"""Installs the repository's own projects as editables: metadata and commands, while modules stay in the tree.

What is written is what ``pip install -e`` writes, without a build: a ``.pth`` file with the import paths, the
``.dist-info`` that ``importlib.metadata`` and ``pip`` read, and the commands. Source: PEP 660, PEP 610, "Recording
installed projects".
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder.layers.layer import Entry
from builder.layers.record import record_text
from builder.layers.scripts import parse_entry_points
from registry_sync.manifest import sha256_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.base import InstalledPackage
    from builder.environment.spec import EditableProject
    from builder.layers.wheel import InstallTarget
    from builder.locking.lock import Lock


def editable_entries(project: EditableProject, target: InstallTarget, repository: str) -> list[Entry]:
    """Return the files of one project; ``repository`` is where the tree lies in the image (``srv/repo``).

    Raises :class:`~builder.layers.errors.LayerError` for entry points that can't be commands.
    """
    name = canonicalize_name(project.name).replace("-", "_")
    paths = [_below(repository, path) for path in project.import_paths]
    info = f"{target.purelib}/{name}-{project.version}.dist-info"
    address = {"dir_info": {"editable": True}, "url": f"file:///{_below(repository, project.directory)}"}
    entries = [
        _file(f"{target.purelib}/_casabinder_{name}.pth", "".join(f"/{path}\n" for path in paths)),
        _file(f"{info}/INSTALLER", "casabinder\n"),
        _file(f"{info}/METADATA", _metadata(project)),
        _file(f"{info}/direct_url.json", json.dumps(address)),
    ]
    if project.entry_points:
        entries.append(_file(f"{info}/entry_points.txt", project.entry_points))
        entries += [
            Entry(f"{target.scripts}/{point.script}", "file", point.launcher(target.interpreter), mode=0o755)
            for point in parse_entry_points(project.entry_points, project.name)
        ]
    rows: list[tuple[str, str, int | None]] = []
    depth = len(target.purelib.split("/")) - len(target.data.split("/"))
    for entry in entries:
        below = entry.path.startswith(f"{target.purelib}/")
        path = entry.path.removeprefix(f"{target.purelib}/" if below else f"{target.data}/")
        content = bytes_of(entry)
        rows.append((path if below else "../" * depth + path, sha256_digest(content), len(content)))
    record = f"{info.removeprefix(f'{target.purelib}/')}/RECORD"
    entries.append(Entry(f"{info}/RECORD", "file", record_text([*rows, (record, "", None)])))
    entries += [
        Entry(f"{repository}/{path}", "file", text.encode(), uid=1000, gid=1000) for path, text in project.generated
    ]
    return entries


def bytes_of(entry: Entry) -> bytes:
    """Return the content of an entry that was made here."""
    return entry.content if isinstance(entry.content, bytes) else b""


def editables_identity(entries: Iterable[Entry]) -> list[list[str]]:
    """Return what of the files decides an environment: path and content."""
    return sorted([entry.path, sha256_digest(bytes_of(entry))] for entry in entries)


def without_editables(
    lock: Lock, projects: Iterable[EditableProject], installed: Mapping[str, InstalledPackage]
) -> Lock:
    """Return ``lock`` without the packages that editables of the same name stand for; the base's are removed."""
    names = {canonicalize_name(project.name) for project in projects}
    if not names & {package.name for package in (*lock.packages, *lock.removed)}:
        return lock
    gone = {package.name: package for package in lock.removed}
    gone |= {old.name: old for old, _ in lock.replaced if old.name in names}
    gone |= {name: installed[name].locked for name in names if name in installed}
    return replace(
        lock,
        packages=tuple(package for package in lock.packages if package.name not in names),
        added=tuple(package for package in lock.added if package.name not in names),
        replaced=tuple((old, new) for old, new in lock.replaced if old.name not in names),
        removed=tuple(gone[name] for name in sorted(gone)),
    )


def _metadata(project: EditableProject) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {project.name}", f"Version: {project.version}"]
    lines += [f"Requires-Python: {project.requires_python}"] if project.requires_python else []
    lines += [f"Provides-Extra: {extra}" for extra in project.extras]
    lines += [f"Requires-Dist: {line}" for line in project.requires]
    return "\n".join(lines) + "\n"


def _below(repository: str, path: str) -> str:
    return f"{repository}/{path}".rstrip("/")


def _file(path: str, text: str) -> Entry:
    return Entry(path, "file", text.encode())
