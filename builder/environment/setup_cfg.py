"""Reads ``setup.cfg`` (setuptools' declarative configuration). A ``setup.py`` that says more has to be run.

Source: setuptools' documentation, "Configuring setuptools using setup.cfg files".
"""

from __future__ import annotations

import ast
import configparser
import warnings

from builder.environment.backends import setuptools_version
from builder.environment.description import (
    UNKNOWN_VERSION,
    Description,
    checked_name,
    checked_version,
    entry_points_text,
    guessed_import_path,
    import_path,
)
from builder.environment.files import Files, inside, join, line_of, read_text
from builder.environment.spec import EnvironmentFileError
from builder.environment.wishes import Wish, parse_extras, parse_python, parse_requirement


def describe_setup(directory: str, files: Files) -> Description | None:
    """Return what ``setup.cfg`` and ``setup.py`` of a directory say, or ``None`` if they name no project there.

    A ``setup.cfg`` without a name only configures tools. A ``setup.py`` that does more than call ``setup()`` is code.
    """
    names = files.names(directory)
    config = _read(join(directory, "setup.cfg"), files) if "setup.cfg" in names else None
    declared = config is not None and config.has_option("metadata", "name")
    code = ""
    if "setup.py" in names:
        code = "" if declared and _calls_only_setup(files.read(join(directory, "setup.py"))) else "its setup.py is code"
    if declared and config is not None:
        return _describe(config, join(directory, "setup.cfg"), directory, files, code)
    if code:
        file = join(directory, "setup.py")
        return Description(file, directory, "", import_paths=(directory,), code=code)
    return None


def _describe(config: configparser.ConfigParser, path: str, directory: str, files: Files, code: str) -> Description:
    text = read_text(files, path)
    name = checked_name(config.get("metadata", "name").strip(), f"{path}: [metadata]")
    stated = config.get("options", "install_requires", fallback="").strip()
    requires: tuple[Wish, ...] = ()
    if stated.startswith("file:"):
        requires = _from_file(stated.removeprefix("file:").strip(), path, directory, files)
    else:
        requires = _wishes(stated, text, path, directory, files)
    extras: dict[str, tuple[Wish, ...]] = {}
    for extra, lines in config.items("options.extras_require") if config.has_section("options.extras_require") else ():
        for canonical in parse_extras(extra.partition(":")[0], path):
            extras[canonical] = _wishes(lines, text, path, directory, files)
    mapping = _pairs(config.get("options", "package_dir", fallback=""))
    where = config.get("options.packages.find", "where", fallback="").strip()
    if "" in mapping or where:
        paths = (import_path(directory, mapping.get("", where), path),)
    elif config.has_option("options", "packages") or config.has_option("options", "py_modules"):
        paths = (directory,)
    else:
        paths = (guessed_import_path(files, directory, name),)
    version, notes = _version(
        config.get("metadata", "version", fallback="0.0.0").strip(), path, directory, paths, files
    )
    source = f"{path}: python_requires"
    python = parse_python(config.get("options", "python_requires", fallback="").strip(), source)
    groups = {}
    for group, lines in config.items("options.entry_points") if config.has_section("options.entry_points") else ():
        groups[group] = dict(_pairs(lines))
    if config.get("options", "ext_modules", fallback=""):
        code = code or "it has extension modules"
    return Description(
        file=path,
        directory=directory,
        name=name,
        version=version,
        requires=requires,
        extras=extras,
        python=python,
        python_source=source if str(python) else "",
        entry_points=entry_points_text(groups, path),
        import_paths=paths,
        code=code,
        notes=notes,
    )


def _read(path: str, files: Files) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=", ":"), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(read_text(files, path))
    except configparser.Error as error:
        line = getattr(error, "lineno", None) or next((number for number, _ in getattr(error, "errors", ())), None)
        where = f"{path}, line {line}" if line else path
        raise EnvironmentFileError(
            f"{where}: this is not the form of setup.cfg; write [sections] of `key = value`"
        ) from error
    return parser


def _wishes(lines: str, text: str, path: str, directory: str, files: Files) -> tuple[Wish, ...]:
    found = []
    for line in lines.replace(";\n", "\n").splitlines():
        plain = line.partition("#")[0].strip() if line.strip().startswith("#") or " #" in line else line.strip()
        if plain:
            number = line_of(text, plain)
            found.append(parse_requirement(plain, f"{path}, line {number}" if number else path, directory, files))
    return tuple(found)


def _from_file(name: str, path: str, directory: str, files: Files) -> tuple[Wish, ...]:
    target = inside(directory, name)
    content = read_text(files, target) if target and files.read(target) is not None else None
    if content is None or target is None:
        raise EnvironmentFileError(f"{path}: install_requires names {name[:80]!r}, which is not in the repository")
    return _wishes(content, content, target, directory, files)


def _version(
    stated: str, path: str, directory: str, paths: tuple[str, ...], files: Files
) -> tuple[str, tuple[str, ...]]:
    kind, colon, value = stated.partition(":")
    found: str | None = stated
    if colon:
        found = setuptools_version({kind.strip(): value.strip()}, files, directory, paths)
    if found is None:
        note = f"{path}: the version {stated[:60]!r} can't be seen without running code; it is {UNKNOWN_VERSION}"
        return UNKNOWN_VERSION, (note,)
    return checked_version(found, f"{path}: [metadata]"), ()


def _pairs(lines: str) -> dict[str, str]:
    found = {}
    for line in lines.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.strip().startswith("#"):
            found[key.strip()] = value.strip()
    return found


def _calls_only_setup(content: bytes | None) -> bool:
    """Whether a ``setup.py`` imports setuptools, calls ``setup()`` without arguments, and does nothing else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(content or b"").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in body:
        if isinstance(node, ast.If):
            return len(node.body) == 1 and _is_setup_call(node.body[0]) and node is body[-1]
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (isinstance(node, ast.Import | ast.ImportFrom) or docstring or _is_setup_call(node)):
            return False
    return True


def _is_setup_call(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    call = node.value
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name == "setup" and not call.args and not call.keywords
