"""Finds the file that decides a repository's environment and reads it.

Files are looked for in ``binder/``, else ``.binder/``, else the root, as repo2docker does. The first of these
decides: ``requirements.txt``, ``pyproject.toml`` with a ``[project]``, or nothing (the base as it is).
``runtime.txt`` may narrow the Python version; ``start`` is run by the image's entry point. A file of the conventions
that this version can't honour is named and refused: an image that silently lacks half its environment helps nobody
(reference: docs/reference/environment-files.md).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from builder.environment.pyproject import read_pyproject
from builder.environment.requirements import read_requirements
from builder.environment.spec import EnvironmentFileError, EnvironmentSpec

if TYPE_CHECKING:
    from builder.repository import Tree

_RUNTIME = re.compile(r"python-(3\.\d+)(\.\d+)?")
# In the conventions' order, what would decide before, or instead of, the files that are read here. It needs a container
# engine, a conda solver, or a reader that is not there yet.
_STRONGER = (
    "Dockerfile",
    "pixi.lock",
    "conda-lock.yml",
    "pixi.toml",
    "environment.yml",
    "environment.yaml",
    "Pipfile.lock",
    "Pipfile",
)
_WEAKER = ("setup.py", "install.R", "DESCRIPTION", "Project.toml", "JuliaProject.toml", "REQUIRE", "default.nix")
_LOCKS = ("pylock.toml", "uv.lock", "poetry.lock", "pdm.lock")
_NEEDS_ENGINE = ("apt.txt", "postBuild")


def detect(tree: Tree) -> EnvironmentSpec:
    """Return the environment that the tree asks for. Raises :class:`EnvironmentFileError` naming file and line."""
    root = tree.commit.spec.subdirectory
    below = [name for name in ("binder", ".binder") if tree.has_directory(_join(root, name))]
    if len(below) > 1:
        raise EnvironmentFileError("the repository has both binder/ and .binder/; keep one of them")
    directory = _join(root, below[0]) if below else root
    names = tree.names(directory)
    for name in _NEEDS_ENGINE:
        if name in names:
            raise EnvironmentFileError(
                f"{_join(directory, name)} runs commands while the image is built, which this version does not do; "
                "use Python packages from the package index, or a `start` script"
            )
    spec = _decide(tree, directory, names)
    if "runtime.txt" in names:
        spec = _with_runtime(spec, _join(directory, "runtime.txt"), tree)
    return spec


def _decide(tree: Tree, directory: str, names: set[str]) -> EnvironmentSpec:
    _refuse(_STRONGER, directory, names)
    notes = tuple(
        f"{_join(directory, name)} is not read by this version: the requirements are resolved anew"
        for name in _LOCKS
        if name in names
    )
    if "requirements.txt" in names:
        path = _join(directory, "requirements.txt")
        requirements, constraints = read_requirements(path, tree.read)
        return EnvironmentSpec("requirements", path, requirements, constraints, notes=notes)
    if "pyproject.toml" in names:
        path = _join(directory, "pyproject.toml")
        content = tree.read(path)
        if content is None:
            raise EnvironmentFileError(f"{path} is not a file, or a symlink to none; make it a file")
        spec = read_pyproject(path, content, names)
        if spec is not None:
            return replace(spec, notes=notes)
    _refuse((*_LOCKS, *_WEAKER), directory, names)
    return EnvironmentSpec("none")


def _refuse(unsupported: tuple[str, ...], directory: str, names: set[str]) -> None:
    for name in unsupported:
        if name in names:
            raise EnvironmentFileError(
                f"{_join(directory, name)} decides this environment and is not supported by this version, which reads "
                f"requirements.txt and pyproject.toml; list the Python packages in binder/requirements.txt"
            )


def _with_runtime(spec: EnvironmentSpec, path: str, tree: Tree) -> EnvironmentSpec:
    text = (tree.read(path) or b"").decode("utf-8", "replace").strip()
    match = _RUNTIME.fullmatch(text)
    if not match:
        raise EnvironmentFileError(f"{path}: {text[:60]!r} is not understood; write for example python-3.13")
    python = SpecifierSet(f"=={match[1]}.*") & spec.python
    return replace(spec, python=python, python_source=path)


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
