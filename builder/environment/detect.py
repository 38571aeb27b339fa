"""Finds the file that decides a repository's environment and reads it.

Files are looked for in ``binder/``, else ``.binder/``, else the root, as repo2docker does. The first row that matches
decides how the environment is locked::

    Dockerfile > pylock.toml > uv.lock > poetry.lock > pdm.lock > (conda files) > Pipfile.lock > Pipfile
               > requirements.txt > pyproject.toml > setup.py, setup.cfg > install.R, DESCRIPTION, Project.toml, ...

``runtime.txt``, ``apt.txt``, ``postBuild`` and ``casabinder.yaml`` add to any row; ``start`` is run by the image's
entry point. R and Julia files join the Python files of a row, as repo2docker's build packs do (reference:
docs/reference/environment-files.md).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from packaging.specifiers import SpecifierSet

from builder.environment.files import Files, is_directory, join, read_text, read_toml
from builder.environment.pdm_lock import read_pdm_lock
from builder.environment.pipfile import read_pipfile, read_pipfile_lock
from builder.environment.poetry_lock import read_poetry_lock
from builder.environment.projects import describe, install, install_project
from builder.environment.pylock_file import choose_pylock, read_pylock_file
from builder.environment.requirements import read_requirements
from builder.environment.settings import read_settings
from builder.environment.spec import (
    ContainerSteps,
    EnvironmentFileError,
    EnvironmentSpec,
    RepositorySettings,
    SourceRequirement,
)
from builder.environment.system import Runtime, read_apt, read_runtime
from builder.environment.uv_lock import read_uv_lock
from builder.environment.wishes import Part

if TYPE_CHECKING:
    from builder.repository.tree import Tree

_CONDA = ("pixi.lock", "conda-lock.yml", "pixi.toml", "environment.yml", "environment.yaml")
_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock")
_R_PACKAGE = re.compile(r"(?m)^Package:")

Kind = Literal["pylock", "uv", "poetry", "pdm", "pipfile", "requirements", "pyproject", "setup", "none"]


def detect(tree: Tree) -> EnvironmentSpec:
    """Return the environment that the tree asks for. Raises :class:`EnvironmentFileError` naming file and line."""
    return detect_files(tree, tree.commit.spec.subdirectory)


def detect_files(files: Files, root: str = "") -> EnvironmentSpec:
    """Return the environment that the files below ``root`` ask for."""
    below = [name for name in ("binder", ".binder") if files.has_directory(join(root, name))]
    if len(below) > 1:
        raise EnvironmentFileError("the repository has both binder/ and .binder/; keep one of them")
    directory = join(root, below[0]) if below else root
    names = files.names(directory)
    settings = RepositorySettings()
    if "casabinder.yaml" in names:
        settings = read_settings(join(directory, "casabinder.yaml"), files)
    if "Dockerfile" in names:
        spec = _dockerfile(files, directory, names)
    else:
        spec = _with_steps(_decide(files, root, directory, names, settings), files, root, directory, names)
    return _with_settings(spec, settings)


def _dockerfile(files: Files, directory: str, names: set[str]) -> EnvironmentSpec:
    path = join(directory, "Dockerfile")
    if files.read(path) is None:
        raise EnvironmentFileError(f"{path} is not a file, or a symlink to none; make it a file")
    rest = [
        "pylock.toml",
        *_LOCKS,
        *_CONDA,
        "Pipfile.lock",
        "Pipfile",
        "requirements.txt",
        "apt.txt",
        "postBuild",
        "runtime.txt",
    ]
    notes = tuple(f"{join(directory, name)} is not read: the Dockerfile decides" for name in rest if name in names)
    return EnvironmentSpec("dockerfile", path, container=ContainerSteps(dockerfile=path), notes=notes)


def _decide(files: Files, root: str, directory: str, names: set[str], settings: RepositorySettings) -> EnvironmentSpec:
    kind, file, part = _row(files, root, directory, names, settings)
    notes = [*part.notes, *_weaker(directory, names, kind)]
    python, python_source = _together(part.pythons)
    return EnvironmentSpec(
        kind=kind,
        file=file,
        requirements=part.requirements,
        constraints=part.constraints,
        sources=part.sources,
        lock=part.lock,
        python=python,
        python_source=python_source,
        editables=part.editables,
        notes=tuple(dict.fromkeys(notes)),
    )


def _row(
    files: Files, root: str, directory: str, names: set[str], settings: RepositorySettings
) -> tuple[Kind, str, Part]:
    """Return the kind of the row that decides, its file, and what it says."""
    pylock = choose_pylock(names, directory)
    if pylock:
        return "pylock", join(directory, pylock), read_pylock_file(join(directory, pylock), files)
    for name in _LOCKS:
        path = join(directory, name)
        if name == "uv.lock" and name in names:
            return "uv", path, read_uv_lock(path, files, settings)
        if name == "poetry.lock" and name in names:
            return "poetry", path, read_poetry_lock(path, files, settings)
        if name == "pdm.lock" and name in names:
            return "pdm", path, read_pdm_lock(path, files, settings)
    for name in _CONDA:
        if name in names:
            raise _conda(join(directory, name))
    if "pyproject.toml" in names and read_toml(files, join(directory, "pyproject.toml")).table("tool").get("pixi"):
        raise _conda(f"[tool.pixi] of {join(directory, 'pyproject.toml')}")
    if "Pipfile.lock" in names:
        return (
            "pipfile",
            join(directory, "Pipfile.lock"),
            read_pipfile_lock(join(directory, "Pipfile.lock"), files, root),
        )
    if "Pipfile" in names:
        return "pipfile", join(directory, "Pipfile"), read_pipfile(join(directory, "Pipfile"), files, root)
    if "requirements.txt" in names:
        return (
            "requirements",
            join(directory, "requirements.txt"),
            _requirements(files, root, directory, names, settings),
        )
    found = describe(directory, files) if {"pyproject.toml", "setup.py", "setup.cfg"} & names else None
    if found is None:
        return _groups_only(files, directory, names, settings)
    kind: Kind = "pyproject" if found.file.endswith("pyproject.toml") else "setup"
    groups = settings.groups if settings.groups is not None else tuple({"binder"} & set(found.groups))
    wish = SourceRequirement("local", settings.file or found.file, directory, extras=settings.extras, editable=True)
    return kind, found.file, install_project(wish, files, groups=groups)


def _groups_only(files: Files, directory: str, names: set[str], settings: RepositorySettings) -> tuple[Kind, str, Part]:
    """A ``pyproject.toml`` without a project may still hold dependency groups (PEP 735); else it configures tools."""
    from builder.environment.pyproject import read_groups

    if "pyproject.toml" not in names:
        return "none", "", Part()
    file = read_toml(files, join(directory, "pyproject.toml"))
    known = read_groups(file, files)
    groups = settings.groups if settings.groups is not None else tuple({"binder"} & set(known))
    missing = [group for group in groups if group not in known]
    if missing:
        raise EnvironmentFileError(
            f"{settings.file}: {file.path} has no group {missing[0]!r}; it has {', '.join(sorted(known)) or 'none'}"
        )
    if not groups:
        return "none", "", Part()
    return "pyproject", file.path, install([wish for group in groups for wish in known[group]], files)


def _requirements(files: Files, root: str, directory: str, names: set[str], settings: RepositorySettings) -> Part:
    """``requirements.txt``, and the repository's own package as repo2docker installs it: if there is no ``binder/``,
    and it has a ``setup.py`` or a ``pyproject.toml`` with both ``[project]`` and ``[build-system]``."""
    path = join(directory, "requirements.txt")
    lines = read_requirements(path, files, root)
    part = Part(constraints=tuple(lines.constraints), notes=tuple(lines.notes)) + install(lines.wishes, files)
    own = "setup.py" in names
    if "pyproject.toml" in names:
        document = read_toml(files, join(directory, "pyproject.toml")).document
        own = own or ("build-system" in document and "project" in document)
    done = {source.path for source in part.sources if source.kind == "local"} | {
        there.directory for there in part.editables
    }
    if own and directory == root and root not in done:
        wish = SourceRequirement("local", settings.file or path, path=root, extras=settings.extras, editable=True)
        groups = settings.groups or ()
        part += install_project(wish, files, groups=groups)
    return part


def _weaker(directory: str, names: set[str], kind: Kind) -> list[str]:
    """Say which files of weaker rows are there and not read."""
    notes = []
    order = ("pylock", "uv", "poetry", "pdm", "conda", "pipfile", "requirements")
    if kind in order:
        groups = {
            "uv": ("uv.lock",),
            "poetry": ("poetry.lock",),
            "pdm": ("pdm.lock",),
            "conda": _CONDA,
            "pipfile": ("Pipfile.lock", "Pipfile"),
            "requirements": ("requirements.txt",),
        }
        for weaker in order[order.index(kind) + 1 :]:
            notes += [
                f"{join(directory, name)} is not read: a stronger file decides"
                for name in groups[weaker]
                if name in names
            ]
    if "requirements3.txt" in names:
        notes.append(f"{join(directory, 'requirements3.txt')} is not read: it is for kernels of Python 2")
    return notes


def _conda(what: str) -> EnvironmentFileError:
    return EnvironmentFileError(
        f"{what} decides this environment and conda packages are not supported by this version; "
        "list the Python packages in binder/requirements.txt"
    )


def _with_steps(spec: EnvironmentSpec, files: Files, root: str, directory: str, names: set[str]) -> EnvironmentSpec:
    """Add what ``runtime.txt``, ``apt.txt``, ``postBuild`` and files of other languages ask for."""
    apt = read_apt(join(directory, "apt.txt"), files) if "apt.txt" in names else ()
    post_build = join(directory, "postBuild") if "postBuild" in names else ""
    if post_build and files.read(post_build) is None:
        raise EnvironmentFileError(f"{post_build} is not a file, or a symlink to none; make it a script")
    runtime = Runtime()
    if "runtime.txt" in names:
        path = join(directory, "runtime.txt")
        runtime = read_runtime(path, files)
        spec = replace(spec, as_of=runtime.as_of)
        if runtime.python is not None:
            pythons = [(runtime.python, path), *([(spec.python, spec.python_source)] if spec.python_source else [])]
            python, source = _together(tuple(pythons))
            spec = replace(spec, python=python, python_source=source)
    steps, file = _language(spec, files, root, directory, names, runtime)
    if steps.buildpack:
        spec = replace(spec, kind=steps.buildpack, file=spec.file or file)
    if apt or post_build or steps.buildpack:
        spec = replace(spec, container=replace(steps, apt=apt, post_build=post_build))
    return spec


def _language(
    spec: EnvironmentSpec, files: Files, root: str, directory: str, names: set[str], runtime: Runtime
) -> tuple[ContainerSteps, str]:
    """Return the steps of another language and the file that asks for it, in the order of repo2docker's build packs."""
    if "REQUIRE" in names and not {"Project.toml", "JuliaProject.toml"} & names:
        raise EnvironmentFileError(
            f"{join(directory, 'REQUIRE')} is of Julia before 1.0, which is not supported; write a Project.toml"
        )
    for name in ("JuliaProject.toml", "Project.toml"):  # Julia reads the first of them that is there
        if name in names:
            path = join(directory, name)
            return ContainerSteps(buildpack="julia", version=_julia_compat(path, files), project=path), path
    if "default.nix" in names and spec.kind == "none":
        return ContainerSteps(buildpack="nix"), join(directory, "default.nix")
    install = join(directory, "install.R") if "install.R" in names else ""
    if install:
        read_text(files, install)
    project = join(directory, "DESCRIPTION") if "DESCRIPTION" in names and directory == root else ""
    if project and (is_directory(files, project) or not _R_PACKAGE.search(read_text(files, project))):
        project = ""
    if not (runtime.r or install or project):
        return ContainerSteps(), ""
    file = join(directory, "runtime.txt") if runtime.r else project or install
    version, snapshot = runtime.r_version, runtime.r_snapshot
    return ContainerSteps(buildpack="r", version=version, snapshot=snapshot, install=install, project=project), file


def _julia_compat(path: str, files: Files) -> str:
    """Return which versions of Julia a project says that it is compatible with, ``""`` if it says nothing."""
    compat = read_toml(files, path).table("compat").get("julia", "")
    if not isinstance(compat, str):
        raise EnvironmentFileError(f'{path}: julia of [compat] is not a string; write it like julia = "1.10"')
    return compat


def _with_settings(spec: EnvironmentSpec, settings: RepositorySettings) -> EnvironmentSpec:
    """Add what ``casabinder.yaml`` says; its date wins over that of ``runtime.txt``."""
    spec = replace(spec, settings=settings, base=settings.base, as_of=settings.as_of or spec.as_of)
    if settings.python:
        pythons = [(SpecifierSet(settings.python), f"{settings.file}: python")]
        pythons += [(spec.python, spec.python_source)] if spec.python_source else []
        python, source = _together(tuple(pythons))
        spec = replace(spec, python=python, python_source=source)
    return spec


def _together(pythons: tuple[tuple[SpecifierSet, str], ...]) -> tuple[SpecifierSet, str]:
    """Return the intersection of several statements on Python and who made them, each with its own where they are
    several."""
    stated = [(specifier, source) for specifier, source in pythons if str(specifier)]
    together = SpecifierSet()
    for specifier, _ in stated:
        together &= specifier
    if len(stated) == 1:
        return together, stated[0][1]
    # What was joined before has its statements in its text already.
    texts = [source if source.endswith(")") else f"{source} ({specifier})" for specifier, source in stated]
    return together, " and ".join(texts)
