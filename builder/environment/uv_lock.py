"""Reads ``uv.lock`` through ``uv export``: what it locks for the project becomes a ``pylock.toml``.

uv gets a directory with the lock and the ``pyproject.toml`` files it speaks of and nothing else, no network, no
configuration of the user's, and none of the project's code.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from builder.environment.files import LOCK_LIMIT, Files, TomlFile, inside, join, parse_toml, read_toml
from builder.environment.projects import describe
from builder.environment.pylock_file import part_of_pylock
from builder.environment.spec import EnvironmentFileError, RepositorySettings, StatedRequirement
from builder.uv import run_uv

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from builder.environment.wishes import Part

_SECONDS = 60
_MOST_MEMBERS = 200


def read_uv_lock(path: str, files: Files, settings: RepositorySettings) -> Part:
    """Return what a ``uv.lock`` says for the project beside it, its extras and groups as in ``settings``.

    Raises :class:`EnvironmentFileError` if it is no lock, or if it is older than the ``pyproject.toml``.
    """
    file = read_toml(files, path, LOCK_LIMIT)
    project = join(file.directory, "pyproject.toml")
    if "pyproject.toml" not in files.names(file.directory):
        raise EnvironmentFileError(f"{path} needs the pyproject.toml that it was made from beside it; add {project}")
    packages = file.document.get("package", [])
    if not isinstance(packages, list) or not all(isinstance(package, dict) for package in packages):
        raise EnvironmentFileError(f"{path}: package is not an array of tables; run `uv lock`")
    _check_fresh(file, packages, files)
    manifests = {"pyproject.toml": read_toml(files, project).text, "uv.lock": file.text}
    for package in packages:
        directory = _directory(package)
        if directory in ("", "."):
            continue
        where = inside(file.directory, directory)
        if where is None:
            raise EnvironmentFileError(
                f"{path}: {directory[:80]!r} leads out of the repository; move the project into it"
            )
        member = join(where, "pyproject.toml")
        # A member above the lock can't be in the scratch directory; the export names it all the same.
        if inside("", directory) and "pyproject.toml" in files.names(where):
            manifests[join(directory, "pyproject.toml")] = read_toml(files, member).text
        if len(manifests) > _MOST_MEMBERS:
            raise EnvironmentFileError(f"{path}: the workspace has more than {_MOST_MEMBERS} members; use fewer")
    for name, manifest in manifests.items():
        if name != "uv.lock":
            _check_members(parse_toml(join(file.directory, name), manifest))
    text = _exported(path, manifests, settings)
    return part_of_pylock(parse_toml(path, text), files)


def _check_members(manifest: TomlFile) -> None:
    """Refuse patterns that would have uv walk through the builder's own directories."""
    workspace = manifest.table("tool", "uv", "workspace")
    for key in ("members", "exclude"):
        for pattern in manifest.strings(workspace, key, f"[tool.uv.workspace] {key}"):
            if inside("", pattern) is None or ".." in pattern.split("/"):
                where = manifest.where(pattern)
                raise EnvironmentFileError(
                    f"{where}: {pattern[:80]!r} leads out of the repository; use a path below it"
                )


def _exported(path: str, manifests: dict[str, str], settings: RepositorySettings) -> str:
    options = [f"--extra={extra}" for extra in settings.extras]
    if settings.groups is not None:
        options += ["--no-default-groups", *(f"--group={group}" for group in settings.groups)]
    with tempfile.TemporaryDirectory(prefix="casabinder-uv-") as scratch:
        for name, text in manifests.items():
            target = Path(scratch) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        command = [
            *("export", "--frozen", "--offline", "--format", "pylock.toml", "--quiet", "--no-header", "--no-progress"),
            *("--project", scratch, *options, "--cache-dir", f"{scratch}/.cache"),
        ]
        try:
            status, exported, said = run_uv(command, Path(scratch), _SECONDS)
        except TimeoutError as error:
            raise EnvironmentFileError(
                f"{path}: uv did not export it within {_SECONDS} s; run `uv lock` again"
            ) from error
    if status:
        words = " ".join(said.replace(scratch, "").replace("error: ", "").split())
        raise EnvironmentFileError(f"{path} can't be used: {words[:400] or 'uv did not say why'}; run `uv lock`")
    return exported


def _check_fresh(file: TomlFile, packages: list[dict[str, Any]], files: Files) -> None:
    """Compare what ``pyproject.toml`` asks for with what the lock says that it asked for."""
    found = describe(file.directory, files)
    own = next((package for package in packages if _directory(package) == "."), None)
    if found is None or own is None or found.code:
        return
    metadata = own.get("metadata")
    listed = metadata.get("requires-dist", []) if isinstance(metadata, dict) else []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise EnvironmentFileError(f"{file.path}: requires-dist is not an array of tables; run `uv lock`")
    before = {(canonicalize_name(str(item.get("name", ""))), _specifier(item)) for item in listed}
    wishes = [*found.requires, *(wish for extra in found.extras.values() for wish in extra)]
    now = {
        (canonicalize_name(wish.requirement.name), wish.requirement.specifier)
        for wish in wishes
        if isinstance(wish, StatedRequirement)
    }
    # A source of [tool.uv.sources] has no specifier in the lock.
    pinned = {name for name, _ in before}
    sourced = {canonicalize_name(str(item.get("name", ""))) for item in listed if "specifier" not in item}
    changed = sorted(
        {
            name
            for name, specifier in now
            if name not in pinned or (name not in sourced and (name, specifier) not in before)
        }
    )
    gone = sorted(
        pinned - {name for name, _ in now} - {wish.name for wish in wishes if not isinstance(wish, StatedRequirement)}
    )
    if changed or gone:
        raise EnvironmentFileError(
            f"{file.path} is older than {found.file}: {', '.join([*changed, *gone])} changed since; run `uv lock`"
        )


def _specifier(item: dict[str, Any]) -> SpecifierSet:
    from builder.environment.wishes import parse_python

    return parse_python(item.get("specifier", ""), "uv.lock: specifier")


def _directory(package: dict[str, Any]) -> str:
    source = package.get("source")
    if not isinstance(source, dict):
        return ""
    return next((str(source[key]) for key in ("editable", "directory", "virtual") if key in source), "")
