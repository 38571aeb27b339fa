"""Reads ``casabinder.yaml``, what a repository asks of casabinder itself: base, Python, date, extras, resources."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from builder.environment.files import Files, read_text
from builder.environment.spec import EnvironmentFileError, RepositorySettings

_LIMIT = 2**16
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B?", re.ASCII)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Resources(_Strict):
    cpus: Annotated[float, Field(gt=0, le=10_000, strict=True)] | None = None
    memory: str | None = None

    @field_validator("memory")
    @classmethod
    def _is_memory(cls, value: str | None) -> str | None:
        if value is not None and not _MEMORY.fullmatch(value):
            raise ValueError("write a number and K, M, G or T, like 4G")
        return value


class _Document(_Strict):
    base: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$")] | None = None
    python: str | None = None
    as_of: str | None = None
    extras: list[_Name] = []
    groups: list[_Name] | None = None
    resources: _Resources = _Resources()
    workers: Annotated[int, Field(ge=0, le=100_000, strict=True)] | None = None
    test_notebooks: list[str] = []

    @field_validator("test_notebooks")
    @classmethod
    def _are_notebooks(cls, value: list[str]) -> list[str]:
        for path in value:
            plain = not any(part in ("", ".", "..") for part in path.split("/")) and not path.startswith("-")
            if not (plain and path.isprintable() and path.endswith(".ipynb")):
                raise ValueError("write paths of notebooks from the repository's root, like analysis/plots.ipynb")
        return value

    @field_validator("python", mode="before")
    @classmethod
    def _is_python(cls, value: Any) -> Any:
        if isinstance(value, float):
            raise ValueError('quote it, like "3.13": YAML reads 3.10 as the number 3.1')
        if isinstance(value, str):
            try:
                SpecifierSet(_specifier(value))
            except InvalidSpecifier as error:
                raise ValueError('write a version like "3.13" or a specifier like ">=3.11"') from error
        return value

    @field_validator("as_of", mode="before")
    @classmethod
    def _is_date(cls, value: Any) -> Any:
        try:
            text = value.isoformat() if isinstance(value, date) else value
            if text == "commit" or (isinstance(text, str) and len(text) == 10 and date.fromisoformat(text)):
                return text
        except ValueError:
            pass
        raise ValueError("write `commit` or a date like 2023-05-01")


def read_settings(path: str, files: Files) -> RepositorySettings:
    """Return what ``casabinder.yaml`` says. Raises :class:`EnvironmentFileError` with the line of what is wrong."""
    text = read_text(files, path, _LIMIT)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise EnvironmentFileError(f"{path}, line {_mark(event)}: *aliases are not understood; repeat it")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else path
        raise EnvironmentFileError(
            f"{where}: this is not YAML ({error.problem or 'unreadable'}); write `key: value`"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError) as error:
        # PyYAML raises Python's own errors for impossible dates, numbers and keys.
        reason = " ".join(str(error).split())[:80] or "nested too deeply"
        raise EnvironmentFileError(f"{path} is not YAML ({reason}); write `key: value`") from error
    if value is None:
        return RepositorySettings(file=path)
    if not isinstance(node, yaml.MappingNode) or not isinstance(value, dict):
        raise EnvironmentFileError(f"{path}, line 1: this is not a table; write `key: value`, see the reference")
    _refuse_twice(node, path)
    try:
        document = _Document.model_validate(value)
    except ValidationError as error:
        raise EnvironmentFileError(_sentence(error, node, path)) from error
    return RepositorySettings(
        file=path,
        base=document.base or "",
        python=_specifier(document.python or ""),
        as_of=document.as_of or "",
        extras=tuple(dict.fromkeys(map(_canonical, document.extras))),
        groups=None if document.groups is None else tuple(dict.fromkeys(map(_canonical, document.groups))),
        cpus=document.resources.cpus or 0.0,
        memory=_bytes(document.resources.memory or "0K"),
        workers=document.workers,
        notebooks=tuple(dict.fromkeys(document.test_notebooks)),
    )


def _mark(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _specifier(text: str) -> str:
    return f"=={text.strip()}.*" if re.fullmatch(r"\s*\d+\.\d+\s*", text, re.ASCII) else text


def _bytes(text: str) -> int:
    match = _MEMORY.fullmatch(text)
    return int(float(match[1]) * 1024 ** _POWERS[match[2]]) if match else 0


def _refuse_twice(node: yaml.MappingNode, path: str) -> None:
    seen = set()
    for key, inner in node.value:
        if key.value in seen and isinstance(key, yaml.ScalarNode):
            raise EnvironmentFileError(
                f"{path}, line {key.start_mark.line + 1}: {key.value[:60]!r} is there twice; keep one"
            )
        seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        if isinstance(inner, yaml.MappingNode):
            _refuse_twice(inner, path)


def _sentence(error: ValidationError, node: yaml.MappingNode, path: str) -> str:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    line = _line(node, location)
    name = ".".join(location)[:80]
    if first["type"] == "extra_forbidden":
        known = _Resources.model_fields if location[0] == "resources" else _Document.model_fields
        return f"{path}, line {line}: {name!r} is not a setting; there are {', '.join(known)}"
    reason = first["msg"].removeprefix("Value error, ").splitlines()[0]
    return f"{path}, line {line}: {name} is {str(first['input'])[:60]!r}: {reason}"


def _line(node: yaml.Node, location: list[str]) -> int:
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == part), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return line
