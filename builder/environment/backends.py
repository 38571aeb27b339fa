"""Knows build back ends: where a project's modules lie, what its version is, and whether its build needs code.

Only what a back end's configuration says as data counts. A back end that compiles, a build hook or a version that is
computed means that code has to run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from builder.environment.description import UNKNOWN_VERSION, checked_version, guessed_import_path, import_path
from builder.environment.files import Files, TomlFile, inside, join
from builder.environment.spec import EnvironmentFileError
from builder.environment.static_version import text_of_file, version_in_file, version_of_attribute, version_of_module

_SETUPTOOLS = ("setuptools.build_meta", "setuptools.build_meta:__legacy__", "")
_PLAIN = {
    "hatchling.build": "hatch",
    "flit_core.buildapi": "flit",
    "poetry.core.masonry.api": "poetry",
    "pdm.backend": "pdm",
    "pdm.pep517.api": "pdm",
    "uv_build": "uv",
}
_COMPILES = re.compile(
    r"(cython|pybind11|nanobind|numpy|cffi|maturin|mypy|swig|cmake|ninja|scikit-build.*|setuptools-rust|hatch-cython|"
    r"hatch-cpp|oldest-supported-numpy)",
    re.IGNORECASE,
)
_NATIVE_SETUP = re.compile(r"\b(ext_modules|cffi_modules|rust_extensions|cmdclass|cythonize|Extension)\b")


@dataclass(frozen=True)
class Layout:
    """Where a project's modules are and which version it has; ``code`` says why that can't be known (empty: it is)."""

    import_paths: tuple[str, ...]
    version: str = UNKNOWN_VERSION
    code: str = ""
    generated: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def layout_of(file: TomlFile, files: Files, name: str, version: object) -> Layout:
    """Return the layout of the project of a ``pyproject.toml``; ``version`` is what ``[project]`` states, or ``None``
    if it is dynamic. Raises :class:`EnvironmentFileError`."""
    system = file.table("build-system")
    backend = str(system.get("build-backend", ""))
    kind = "setuptools" if backend in _SETUPTOOLS else _PLAIN.get(backend, "")
    code = _code(file, files, kind, backend, file.strings(system, "requires", "[build-system] requires"))
    paths = _import_paths(file, files, kind, name)
    generated: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    if version is not None:
        return Layout(paths, checked_version(version, f"{file.path}: [project]"), code)
    found = _dynamic_version(file, files, kind, name, paths)
    if found is not None:
        return Layout(paths, checked_version(found, file.path), code)
    from_history = _from_history(file, system)
    if from_history:
        notes = (
            f"{file.path}: the version comes from the git history, which an image does not have; "
            f"{name} has the version {UNKNOWN_VERSION}",
        )
        generated = _version_file(file)
    return Layout(paths, UNKNOWN_VERSION, code if from_history else code or "its version is dynamic", generated, notes)


def _code(file: TomlFile, files: Files, kind: str, backend: str, requires: list[str]) -> str:
    if not kind:
        return f"its build back end {backend} runs code"
    for text in requires:
        package = re.split(r"[\s<>=!~;\[@]", text.strip())[0]
        if _COMPILES.fullmatch(package):
            return f"its build uses {package}"
    if kind == "setuptools":
        if file.table("tool", "setuptools").get("ext-modules"):
            return "it has extension modules"
        content = files.read(join(file.directory, "setup.py"))
        if content and _NATIVE_SETUP.search(content.decode("utf-8", "replace")):
            return "its setup.py does more than name packages"
    if kind == "hatch":
        hooks = {**file.table("tool", "hatch", "build", "hooks")}
        hooks |= file.table("tool", "hatch", "build", "targets", "wheel", "hooks")
        if set(hooks) - {"vcs", "version"}:
            return "it has build hooks"
    if kind == "poetry" and file.table("tool", "poetry").get("build"):
        return "it has a build script"
    if kind == "pdm" and "pdm_build.py" in files.names(file.directory):
        return "it has a build script"
    return ""


def _import_paths(file: TomlFile, files: Files, kind: str, name: str) -> tuple[str, ...]:
    stated: list[str] | None = None
    if kind == "setuptools":
        options = file.table("tool", "setuptools")
        mapping = options.get("package-dir", {})
        packages = options.get("packages")
        find = packages.get("find", {}) if isinstance(packages, dict) else {}
        if isinstance(mapping, dict) and isinstance(mapping.get(""), str):
            stated = [mapping[""]]
        elif isinstance(find, dict) and find.get("where"):
            stated = _texts(find["where"])
        elif isinstance(packages, list) or "py-modules" in options:
            stated = [""]
    elif kind == "hatch":
        wheel = file.table("tool", "hatch", "build", "targets", "wheel")
        packages = _texts(wheel.get("packages", file.table("tool", "hatch", "build").get("packages", [])))
        stated = [package.strip("/").rpartition("/")[0] for package in packages] or None
    elif kind == "poetry":
        packages = file.table("tool", "poetry").get("packages", [])
        found = (
            [str(entry.get("from", "")) for entry in packages if isinstance(entry, dict)]
            if isinstance(packages, list)
            else []
        )
        stated = found or None
    elif kind == "pdm":
        directory = file.table("tool", "pdm", "build").get("package-dir")
        stated = [directory] if isinstance(directory, str) else None
    elif kind == "uv":
        root = file.table("tool", "uv", "build-backend").get("module-root")
        stated = [root] if isinstance(root, str) else None
    if stated is None:
        return (guessed_import_path(files, file.directory, name),)
    return tuple(dict.fromkeys(import_path(file.directory, path, file.path) for path in stated))


def _dynamic_version(file: TomlFile, files: Files, kind: str, name: str, paths: tuple[str, ...]) -> str | None:
    if kind == "setuptools":
        stated = file.table("tool", "setuptools", "dynamic").get("version", {})
        return setuptools_version(stated, files, file.directory, paths) if isinstance(stated, dict) else None
    if kind in ("hatch", "pdm"):
        options = file.table("tool", kind, "version")
        path = options.get("path")
        if isinstance(path, str) and options.get("source", "regex") in ("regex", "code", "file"):
            return version_in_file(files, file.directory, path)
    if kind == "flit":
        module = file.table("tool", "flit", "module").get("name", canonicalize_name(name).replace("-", "_"))
        return version_of_module(files, file.directory, paths, str(module))
    return None


def setuptools_version(stated: dict[str, Any], files: Files, directory: str, paths: tuple[str, ...]) -> str | None:
    """Return the version that setuptools' ``attr`` or ``file`` names, or ``None`` if it can't be seen."""
    if isinstance(stated.get("attr"), str):
        return version_of_attribute(files, (*paths, directory), stated["attr"])
    names = _texts(stated.get("file", []))
    return text_of_file(files, directory, names[0]) if len(names) == 1 else None


def _from_history(file: TomlFile, system: dict[str, Any]) -> bool:
    requires = " ".join(_texts(system.get("requires", []))).lower().replace("_", "-")
    tools = file.table("tool")
    return (
        any(
            name in requires
            for name in (
                "setuptools-scm",
                "setuptools-git-versioning",
                "hatch-vcs",
                "versioneer",
                "dunamai",
                "versioningit",
            )
        )
        or "setuptools_scm" in tools
        or file.table("tool", "hatch", "version").get("source") == "vcs"
        or file.table("tool", "pdm", "version").get("source") == "scm"
    )


def _version_file(file: TomlFile) -> tuple[tuple[str, str], ...]:
    """Return the module that the build would have written the version to: the project imports it."""
    options = file.table("tool", "setuptools_scm")
    hook = file.table("tool", "hatch", "build", "hooks", "vcs")
    stated = options.get("version_file") or options.get("write_to") or hook.get("version-file")
    if stated is None:
        return ()
    path = inside(file.directory, stated) if isinstance(stated, str) else None
    if not path:
        raise EnvironmentFileError(
            f"{file.path}: the version file {str(stated)[:80]!r} is not in the repository; correct it"
        )
    if not path.endswith(".py"):
        return ((path, f"{UNKNOWN_VERSION}\n"),)
    return (
        (path, f'__version__ = version = "{UNKNOWN_VERSION}"\n__version_tuple__ = version_tuple = (0, "unknown")\n'),
    )


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
