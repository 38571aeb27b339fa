"""Known vulnerabilities of packages, as the package index tells them: ``/pypi/NAME/VERSION/json``, where it has that.

Many indexes do not; that is told apart from an index that knows of none. (The page is Warehouse's "JSON API".)
"""

from __future__ import annotations

import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from builder.sources.default_index import default_index
from registry_sync.errors import CasabinderError
from registry_sync.retries import RETRY_AFTER_SECONDS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


def known_vulnerabilities(
    packages: Iterable[tuple[str, str]], index: PackageIndex, sleep: Callable[[float], None] = time.sleep
) -> list[Vulnerability] | None:
    """Return what the index knows of packages (name, version), ``None`` if it does not tell.

    Raises :class:`CasabinderError` when it can't be asked, or refuses to answer.
    """
    wanted = sorted(set(packages))
    root = (index.url or default_index()).rstrip("/").removesuffix("/simple")
    context = ssl.create_default_context()
    if index.ca_bundle:
        context.load_verify_locations(index.ca_bundle)

    def ask(package: tuple[str, str]) -> dict[str, Any] | None:
        name, version = package
        answer = _patiently(client, f"{root}/pypi/{name}/{version}/json", sleep)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        try:
            document = answer.raise_for_status().json()
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


def _patiently(client: httpx.Client, address: str, sleep: Callable[[float], None]) -> httpx.Response:
    """Return the answer to a request, or to a second one if the index asks for it (RFC 9110, 10.2.3)."""
    answer = client.get(address)
    pause = answer.headers.get("Retry-After", "")
    if answer.is_success or not pause.isdecimal():
        return answer
    sleep(min(float(pause), RETRY_AFTER_SECONDS_MAX))
    return client.get(address)


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
