"""Reads the page of one project in a package index and chooses a source distribution from it.

Sources: the simple repository API, as HTML (PEP 503, PEP 592 and data-requires-python) and as JSON (PEP 691).
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename

from builder.sources.errors import SourceBuildError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.requirements import Requirement

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_JSON = "application/vnd.pypi.simple.v1+json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class IndexFile:
    """One file that an index offers; ``sha256`` is empty where the index does not say."""

    filename: str
    url: str
    sha256: str = ""
    requires_python: str = ""
    yanked: bool = False


def parse_page(body: bytes, content_type: str, url: str) -> list[IndexFile]:
    """Return the files of a page that was read from ``url``; entries that make no sense are left out.

    Raises :class:`SourceBuildError` for JSON that is none.
    """
    if content_type.partition(";")[0].strip().lower() == _JSON:
        try:
            entries = json.loads(body)["files"]
            return [file for entry in entries if (file := _from_json(entry, url))]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SourceBuildError(f"the package index answered {url} with JSON that is no project page") from error
    parser = _Anchors(url)
    with contextlib.suppress(AssertionError):  # what html.parser raises for `<![x[`; the files before it count
        parser.feed(body.decode("utf-8", "replace"))
        parser.close()
    return parser.files


def newest_sdist(files: Iterable[IndexFile], requirement: Requirement, python: str) -> IndexFile | None:
    """Return the newest source distribution that satisfies ``requirement`` and is for ``python`` (``X.Y.Z``).

    Yanked files are for a requirement with ``==`` only (PEP 592), pre-releases as PEP 440 has it. Of two forms of one
    version the ``.tar.gz`` is taken.
    """
    name = canonicalize_name(requirement.name)
    pinned = any(specifier.operator in ("==", "===") for specifier in requirement.specifier)
    found = {}
    for file in files:
        try:
            project, version = parse_sdist_filename(file.filename)
            fits = python in SpecifierSet(file.requires_python)
        except (InvalidSdistFilename, InvalidSpecifier):
            continue
        if project != name or not fits or (file.yanked and not pinned):
            continue
        if version not in found or file.filename.endswith(".tar.gz"):
            found[version] = file
    allowed = list(requirement.specifier.filter(found))
    return found[max(allowed)] if allowed else None


def _from_json(entry: object, base: str) -> IndexFile | None:
    if not isinstance(entry, dict):
        return None
    hashes = entry.get("hashes")
    sha256 = str(hashes.get("sha256", "")) if isinstance(hashes, dict) else ""
    requires = entry.get("requires-python")
    return _file(
        str(entry.get("filename", "")),
        str(entry.get("url", "")),
        base,
        sha256,
        requires if isinstance(requires, str) else "",
        yanked=bool(entry.get("yanked", False)),
    )


def _file(filename: str, url: str, base: str, sha256: str, requires: str, *, yanked: bool) -> IndexFile | None:
    try:
        parts = urlsplit(urljoin(base, url))._replace(fragment="")
        web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return None
    if not web or not filename or "/" in filename or "\0" in filename:
        return None
    return IndexFile(filename, parts.geturl(), sha256 if _SHA256.fullmatch(sha256) else "", requires, yanked)


class _Anchors(HTMLParser):
    """Collects the links of a PEP 503 page."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._base = url
        self.files: list[IndexFile] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        href = values.get("href")
        if tag == "base" and href:
            try:
                self._base = urljoin(self._base, href)
            except ValueError:
                return
        if tag != "a" or not href:
            return
        try:
            parts = urlsplit(href)
        except ValueError:
            return
        sha256 = parts.fragment.removeprefix("sha256=")
        filename = unquote(parts.path.rpartition("/")[2])
        requires = values.get("data-requires-python") or ""
        file = _file(filename, href, self._base, sha256, requires, yanked="data-yanked" in values)
        if file:
            self.files.append(file)
