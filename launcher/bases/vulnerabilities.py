"""Known vulnerabilities of packages, as the package index tells them: ``/pypi/NAME/VERSION/json``, where it has that.

Many indexes do not; that is told apart from an index that knows of none. (The page is Warehouse's "JSON API".)
"""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from builder.sources.default_index import default_index
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.locking.resolver import PackageIndex

_PARALLEL = 8
_PROBES = 3  # packages that are asked for before the index is believed to have no such pages
_SECONDS = 20.0


@dataclass(frozen=True)
class Vulnerability:
    """A vulnerability of one version of a package: its names (CVE and others), and the versions without it."""

    name: str
    version: str
    names: tuple[str, ...]
    fixed_in: tuple[str, ...]


def known_vulnerabilities(packages: Iterable[tuple[str, str]], index: PackageIndex) -> list[Vulnerability] | None:
    """Return what the index knows of packages (name, version), ``None`` if it does not tell.

    Raises :class:`CasabinderError` when it can't be asked.
    """
    wanted = sorted(set(packages))
    root = (index.url or default_index()).rstrip("/").removesuffix("/simple")
    context = ssl.create_default_context()
    if index.ca_bundle:
        context.load_verify_locations(index.ca_bundle)

    def ask(package: tuple[str, str]) -> dict[str, Any] | None:
        name, version = package
        answer = client.get(f"{root}/pypi/{name}/{version}/json")
        if answer.is_server_error:
            answer.raise_for_status()
        try:
            document = answer.json() if answer.is_success else None
        except ValueError:
            return None
        return document if isinstance(document, dict) and "vulnerabilities" in document else None

    try:
        with (
            httpx.Client(verify=context, timeout=_SECONDS, follow_redirects=True) as client,
            ThreadPoolExecutor(_PARALLEL) as pool,
        ):
            first = list(pool.map(ask, wanted[:_PROBES]))
            if not any(first):
                return None
            answers = [*first, *pool.map(ask, wanted[_PROBES:])]
    except httpx.HTTPError as error:
        raise CasabinderError(f"the package index could not be asked for vulnerabilities: {error}") from error
    return [
        one
        for (name, version), answer in zip(wanted, answers, strict=True)
        for one in _read(name, version, answer or {})
    ]


def _read(name: str, version: str, document: dict[str, Any]) -> list[Vulnerability]:
    """Return what a page tells, without what was withdrawn."""
    return [
        Vulnerability(
            name,
            version,
            tuple(dict.fromkeys([*map(str, entry.get("aliases") or ()), str(entry.get("id", "unknown"))])),
            tuple(map(str, entry.get("fixed_in") or ())),
        )
        for entry in document.get("vulnerabilities") or ()
        if isinstance(entry, dict) and not entry.get("withdrawn")
    ]
