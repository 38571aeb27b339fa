"""Reads ``pyproject.toml`` (PEP 621): dependencies, Python version, and where the project's own packages lie.

The project itself is not built: its source directory is put on the import path, so that an edit in the notebook counts
at once, as with an editable install.
"""

from __future__ import annotations

import tomllib
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from builder.environment.spec import EnvironmentFileError, EnvironmentSpec, StatedRequirement


def read_pyproject(path: str, content: bytes, names: set[str]) -> EnvironmentSpec | None:
    """Return what a ``pyproject.toml`` asks for, or ``None`` if it has no ``[project]`` (it only configures tools).

    ``names`` is what lies beside the file. Raises :class:`EnvironmentFileError`.
    """
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EnvironmentFileError(f"{path} is not valid TOML: {error}") from error
    project = document.get("project")
    if project is None:
        return None
    if not isinstance(project, dict):
        raise EnvironmentFileError(f"{path}: [project] is not a table")
    if "dependencies" in (project.get("dynamic") or ()):
        raise EnvironmentFileError(
            f"{path}: the dependencies are dynamic, which needs code to run; list them under [project] dependencies"
        )
    try:
        python = SpecifierSet(str(project.get("requires-python", "")))
    except InvalidSpecifier as error:
        raise EnvironmentFileError(
            f"{path}: requires-python {project['requires-python']!r} is not a version specifier"
        ) from error
    directory = path.rpartition("/")[0]
    source = "src" if "src" in names else ""
    import_path = "/".join(part for part in (directory, source) if part)
    return EnvironmentSpec(
        kind="pyproject",
        file=path,
        requirements=tuple(_requirements(path, project)),
        python=python,
        python_source=f"{path}: requires-python",
        import_paths=(import_path,),
    )


def _requirements(path: str, project: dict[str, Any]) -> list[StatedRequirement]:
    dependencies = project.get("dependencies", [])
    if not isinstance(dependencies, list):
        raise EnvironmentFileError(f"{path}: [project] dependencies is not a list")
    found = []
    for number, text in enumerate(dependencies, start=1):
        source = f"{path}, dependency {number}"
        try:
            requirement = Requirement(text)
        except (InvalidRequirement, TypeError) as error:
            raise EnvironmentFileError(f"{source}: {text!r} is not a requirement; write it like `name>=1.2`") from error
        if requirement.url:
            raise EnvironmentFileError(
                f"{source}: {text!r} does not come from the package index; give a released version instead"
            )
        found.append(StatedRequirement(requirement, source))
    return found
