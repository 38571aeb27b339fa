"""The list of what is to be built before anybody asks: a file with a repository a line, or YAML.

::

    # text: a repository as one would paste it, and a ref
    scikit-hep/scikit-hep-tutorials
    https://gitlab.com/group/project     v1.2

    # YAML (.yaml, .yml): the same, or an entry that says more
    - scikit-hep/scikit-hep-tutorials
    - {repo: "https://gitlab.com/group/project", ref: v1.2, base: coffea-py311, as_of: 2026-01-31, subdirectory: a}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, RootModel, field_validator

from builder.documents import read_document
from launcher.jobs.model import Asked
from launcher.refusal import RefusedError
from launcher.service.parameters import checked_day
from launcher.service.pasted import understood, with_ref
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Wanted(BaseModel):
    """An entry: a repository as a person names it; what is empty is as on the launch page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repo: str
    ref: str = ""
    base: str = ""
    as_of: str = ""
    subdirectory: str = ""

    @field_validator("as_of", mode="before")
    @classmethod
    def _day(cls, value: object) -> str:
        try:
            return checked_day(str(value))  # YAML reads a day as one
        except RefusedError as error:
            raise ValueError(str(error)) from error


class _Listed(RootModel[list[Wanted]]):
    """The document of a YAML list."""

    @field_validator("root", mode="before")
    @classmethod
    def _entries(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return [_words(entry) if isinstance(entry, str) else entry for entry in value]


def read_list(file: Path) -> tuple[Wanted, ...]:
    """Return the entries; raise :class:`CasabinderError` naming the file, and the line or entry at fault."""
    if file.suffix in (".yaml", ".yml"):
        return tuple(read_document(file, _Listed, "the list of repositories").root)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CasabinderError(f"the list of repositories {file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CasabinderError(f"the list of repositories {file} is not UTF-8 text; save it as UTF-8") from error
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        try:
            found += [Wanted(**_words(text))] if text and not text.startswith("#") else []
        except ValueError as error:
            raise CasabinderError(f"{file}:{number}: {error}") from error
    return tuple(found)


def asked_for(wanted: Wanted, hosts: Mapping[str, str] | None = None) -> Asked:
    """Return what the launch page would ask for; raise :class:`CasabinderError` for what it does not understand."""
    pasted = understood(wanted.repo, hosts).pasted
    return Asked(pasted.provider, with_ref(pasted, wanted.ref), wanted.base, wanted.as_of, wanted.subdirectory)


def _words(text: str) -> dict[str, str]:
    words = text.partition(" #")[0].split()
    if not 1 <= len(words) <= 2:
        raise ValueError(f"{text[:100]!r} is not a repository, or a repository and a ref")
    return dict(zip(("repo", "ref"), words, strict=False))
