"""Reads ``[tool.poetry]``: Poetry's own dependency syntax, put into PEP 508's words.

``^1.2`` is ``>=1.2,<2``, ``~1.2`` is ``>=1.2,<1.3``, ``1.*`` is ``==1.*``, a bare version is exact, ``a || b`` has no
counterpart in PEP 440. Source: python-poetry.org, "Dependency specification".
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from builder.environment.backends import layout_of
from builder.environment.description import Description, checked_name, entry_points_text
from builder.environment.spec import EnvironmentFileError, StatedRequirement
from builder.environment.wishes import Wish, and_marker, parse_address, parse_extras

if TYPE_CHECKING:
    from builder.environment.files import Files, TomlFile

_CLAUSE = re.compile(r"\s*(?P<operator>\^|~(?!=)|===|==|~=|!=|<=|>=|<|>|=)?\s*v?(?P<version>[0-9][\w.!+*-]*|\*)\s*")


def describe_poetry(file: TomlFile, files: Files) -> Description | None:
    """Return what a ``pyproject.toml`` with ``[tool.poetry]`` and no ``[project]`` says, or ``None`` if it has none."""
    poetry = file.table("tool", "poetry")
    if not poetry or "project" in file.document:
        return None
    packaged = poetry.get("package-mode") is not False and "name" in poetry
    name = checked_name(poetry.get("name", "project"), f"{file.path}: [tool.poetry]")
    main = file.table("tool", "poetry", "dependencies")
    python = main.get("python", "*")
    source = f"{file.path}: [tool.poetry.dependencies] python"
    optional = {key: value for key, value in main.items() if isinstance(value, dict) and value.get("optional") is True}
    required = {key: value for key, value in main.items() if key != "python" and key not in optional}
    extras: dict[str, tuple[Wish, ...]] = {}
    for extra, packages in file.table("tool", "poetry", "extras").items():
        wanted = (
            {canonicalize_name(package) for package in packages}
            if isinstance(packages, list) and all(isinstance(package, str) for package in packages)
            else set()
        )
        extras[canonicalize_name(extra)] = poetry_wishes(
            {key: value for key, value in optional.items() if canonicalize_name(key) in wanted}, file, files
        )
    version = poetry.get("version", "0")
    layout = layout_of(
        file, files, name, None if version in ("0.0.0", "0") and "poetry-dynamic-versioning" in file.text else version
    )
    return Description(
        file=file.path,
        directory=file.directory,
        name=name,
        version=layout.version,
        requires=poetry_wishes(required, file, files),
        extras=extras,
        groups=poetry_groups(file, files),
        python=poetry_specifier(python, source),
        python_source=source if python != "*" else "",
        entry_points=entry_points_text(
            {"console_scripts": file.table("tool", "poetry", "scripts"), **file.table("tool", "poetry", "plugins")},
            file.path,
        ),
        import_paths=layout.import_paths,
        code=layout.code,
        packaged=packaged,
        notes=layout.notes,
    )


def poetry_groups(file: TomlFile, files: Files) -> dict[str, tuple[Wish, ...]]:
    """Return the wishes of Poetry's groups by canonical name, ``dev-dependencies`` as ``dev``."""
    found: dict[str, tuple[Wish, ...]] = {}
    for name in file.table("tool", "poetry", "group"):
        found[canonicalize_name(name)] = poetry_wishes(
            file.table("tool", "poetry", "group", name, "dependencies"), file, files
        )
    old = file.table("tool", "poetry", "dev-dependencies")
    if old:
        found["dev"] = found.get("dev", ()) + poetry_wishes(old, file, files)
    return found


def poetry_wishes(table: dict[str, Any], file: TomlFile, files: Files) -> tuple[Wish, ...]:
    """Return the wishes of a table of Poetry's dependencies."""
    found: list[Wish] = []
    for name, stated in table.items():
        source = file.where(name)
        try:
            canonicalize_name(name, validate=True)
        except InvalidName as error:
            raise EnvironmentFileError(f"{source}: {name[:60]!r} is not a package name; correct it") from error
        entries = stated if isinstance(stated, list) else [stated]
        found += [_wish(name, entry, source, file, files) for entry in entries]
    return tuple(found)


def _wish(name: str, stated: object, source: str, file: TomlFile, files: Files) -> Wish:
    table = {"version": stated} if isinstance(stated, str) else stated
    if not isinstance(table, dict):
        raise EnvironmentFileError(
            f'{source}: {name} is {str(stated)[:60]!r}; write a version such as "^1.2" or a table'
        )
    extras = (
        parse_extras(",".join(str(extra) for extra in table["extras"]), source)
        if isinstance(table.get("extras"), list)
        else ()
    )
    address = _address(table, source)
    wish: Wish
    if address:
        wish = replace(
            parse_address(address, source, file.directory, files), name=canonicalize_name(name), extras=extras
        )
    else:
        requirement = Requirement(name)
        requirement.extras = set(extras)
        requirement.specifier = poetry_specifier(table.get("version", "*"), f"{source}: {name}")
        wish = StatedRequirement(requirement, source)
    if "python" in table:
        wish = and_marker(wish, python_marker(poetry_specifier(table["python"], f"{source}: python")), source)
    if isinstance(table.get("platform"), str):
        wish = and_marker(wish, f"sys_platform == '{re.sub(r'[^a-z0-9]', '', table['platform'])}'", source)
    return and_marker(wish, str(table.get("markers", "")), source)


def _address(table: dict[str, Any], source: str) -> str:
    texts = {
        key: str(table[key]) for key in ("git", "url", "path", "rev", "tag", "branch", "subdirectory") if key in table
    }
    if "git" in texts:
        url = texts["git"]
        url = re.sub(r"^git@([\w.-]+):", r"ssh://git@\1/", url)
        ref = texts.get("rev") or texts.get("tag") or texts.get("branch") or ""
        below = f"#subdirectory={texts['subdirectory']}" if "subdirectory" in texts else ""
        if "#" in url:
            raise EnvironmentFileError(f'{source}: the address {url[:60]!r} has a #; write subdirectory = "..."')
        return f"git+{url}{'@' + ref if ref else ''}{below}"
    return texts.get("url") or texts.get("path") or ""


def python_marker(specifier: SpecifierSet) -> str:
    """Return the marker that is true for the Pythons of a specifier."""
    parts = []
    for clause in sorted(specifier, key=str):
        variable = (
            "python_version"
            if clause.version.removesuffix(".*").count(".") <= 1 and ".*" not in clause.version
            else "python_full_version"
        )
        parts.append(f"{variable} {clause.operator} '{clause.version}'")
    text = " and ".join(parts)
    return str(Marker(text)) if text else ""


def poetry_specifier(text: object, source: str) -> SpecifierSet:
    """Return what Poetry's constraint means in PEP 440; raise :class:`EnvironmentFileError` if nothing."""
    wrong = EnvironmentFileError(
        f'{source} {str(text)[:60]!r} is not a version constraint; write it like "^1.2" or ">=1.2,<2"'
    )
    if not isinstance(text, str) or len(text) > 1000:
        raise wrong
    if "|" in text:
        return _union(text, source, wrong)
    clauses = []
    for part in re.split(r",|(?<=[\w*])\s+(?=[<>=!~^])", text.strip()):
        if part.strip() in ("", "*"):
            continue
        match = _CLAUSE.fullmatch(part)
        if not match:
            raise wrong
        try:
            clauses.append(_clause(match["operator"] or "", match["version"]))
        except (InvalidVersion, InvalidSpecifier, ValueError) as error:
            raise wrong from error
    try:
        return SpecifierSet(",".join(filter(None, clauses)))
    except InvalidSpecifier as error:
        raise wrong from error


def _clause(operator: str, text: str) -> str:
    if text == "*":
        return ""
    if text.endswith(".*"):
        return f"{'!=' if operator == '!=' else '=='}{text}"
    version = Version(text)
    if operator == "^":
        release = version.release
        index = next((n for n, part in enumerate(release) if part), len(release) - 1)
        upper = (*release[:index], release[index] + 1)
        return f">={text},<{'.'.join(map(str, upper))}"
    if operator == "~":
        release = version.release
        upper = (release[0], release[1] + 1) if len(release) > 1 else (release[0] + 1,)
        return f">={text},<{'.'.join(map(str, upper))}"
    return f"{operator if operator not in ('', '=') else '=='}{text}"


def _union(text: str, source: str, wrong: EnvironmentFileError) -> SpecifierSet:
    """``>=2.7,<2.8 || >=3.5``: take the last, newest range, which is what such constraints are written for."""
    parts = [part for part in re.split(r"\|\|?", text) if part.strip()]
    if not parts:
        raise wrong
    return [poetry_specifier(part, source) for part in parts][-1]
