"""HTTP for repositories: every host checked before it is asked, redirects and sizes bounded, checksums verified.

Each request, the redirected ones too, goes to an address that was checked (addresses.py): the connection is made to the
number, while ``Host`` and the certificate's name stay those of the URL. Behind a proxy, which resolves names itself,
the check comes before each request instead.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from builder.repository.addresses import behind_proxy, checked_addresses
from builder.repository.spec import RepositoryError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.repository.fetching import Fetching

_ATTEMPTS = 3
_CHUNK = 2**20
_LARGEST_ANSWER = 32 * 2**20
_AGENT = {"User-Agent": "casabinder"}
CHECKSUMS = ("sha256", "sha512", "sha1", "md5")


class _Checked(httpx.BaseTransport):
    """Connects to the address that was checked."""

    def __init__(self, fetching: Fetching, context: ssl.SSLContext) -> None:
        self._fetching = fetching
        self._inner = httpx.HTTPTransport(verify=context)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        addresses = _check(request, self._fetching)
        for address in addresses[:-1]:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return self._inner.handle_request(_at(request, address))
        return self._inner.handle_request(_at(request, addresses[-1]) if addresses else request)

    def close(self) -> None:
        self._inner.close()


def _at(request: httpx.Request, address: str) -> httpx.Request:
    """Return the request as it goes to one address of its host."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=f"[{address}]" if ":" in address else address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def _check(request: httpx.Request, fetching: Fetching) -> tuple[str, ...]:
    if request.url.scheme not in ("http", "https"):
        raise RepositoryError(f"{request.url.host} sends us on to a {request.url.scheme} address, which is not fetched")
    port = request.url.port or (443 if request.url.scheme == "https" else 80)
    return checked_addresses(request.url.host, port, fetching)


@contextmanager
def web_client(fetching: Fetching) -> Iterator[httpx.Client]:
    """Give a client that keeps the site's rules, and turn what goes wrong into :class:`RepositoryError`."""
    context = ssl.create_default_context()
    if fetching.ca_bundle:
        context.load_verify_locations(fetching.ca_bundle)
    settings: dict[str, Any] = {"timeout": 60, "follow_redirects": True, "max_redirects": 8, "headers": _AGENT}
    if behind_proxy("example.org"):
        settings |= {"verify": context, "event_hooks": {"request": [lambda request: _hook(request, fetching)]}}
    else:
        settings |= {"transport": _Checked(fetching, context)}
    with httpx.Client(**settings) as client:
        try:
            yield client
        except httpx.InvalidURL as error:
            raise RepositoryError(f"an address that is none: {error}") from error
        except httpx.HTTPError as error:
            try:
                host = error.request.headers.get("Host", error.request.url.host)
            except RuntimeError:
                host = "the repository's host"
            raise UnreachableError(f"{host} can't be reached; check the address and the network") from error


def _hook(request: httpx.Request, fetching: Fetching) -> None:
    _check(request, fetching)


def redirect_of(url: str, fetching: Fetching) -> str | None:
    """Return where ``url`` redirects to, one hop; ``None`` if it does not."""
    with web_client(fetching) as client:
        answer = client.get(url, follow_redirects=False)
        return str(httpx.URL(url).join(answer.headers["Location"])) if answer.has_redirect_location else None


def final_url(client: httpx.Client, url: str, what: str) -> str:
    """Follow redirects (a DOI's) and return where they end; raise :class:`RepositoryError` when that is nowhere."""
    with client.stream("GET", url, headers={"Accept": "text/html"}) as answer:
        if answer.status_code == 404:
            raise RepositoryError(f"there is no {what}; check the spelling")
        return str(answer.url)


def get_json(client: httpx.Client, url: str, what: str, params: Mapping[str, str] | None = None) -> Any:
    """Return a JSON answer; raise :class:`RepositoryError` naming ``what`` when there is none."""
    for attempt in range(1, _ATTEMPTS + 1):
        body = b""
        with client.stream("GET", url, params=params, headers={"Accept": "application/json"}) as answer:
            status, host = answer.status_code, answer.request.headers.get("Host", "")
            for chunk in answer.iter_bytes(_CHUNK):
                body += chunk
                if len(body) > _LARGEST_ANSWER:
                    raise RepositoryError(f"the description of {what} at {host} is too long to be true")
        if status in (404, 410):
            raise RepositoryError(f"there is no {what} at {host}; check the spelling")
        if status in (401, 403):
            raise RepositoryError(f"{what} is not public at {host}")
        if status == 200:
            try:
                return json.loads(body)
            except ValueError as error:
                raise RepositoryError(f"{host} did not describe {what} in JSON") from error
        if attempt < _ATTEMPTS and (status >= 500 or status == 429):
            time.sleep(0.5 * attempt)
    raise RepositoryError(f"{host} answered {status} when asked for {what}; try again later")


@dataclass(frozen=True)
class Expected:
    """What a download must be: its name for messages, its size in bytes (-1: not known), ``sha256:...`` or ``""``."""

    name: str
    size: int = -1
    checksum: str = ""


def download(
    client: httpx.Client,
    url: str,
    destination: Path,
    expected: Expected,
    limit: int,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Download a file and return its size; at most ``limit`` bytes.

    Raises :class:`RepositoryError` when it is too big, or not what was expected.
    """
    algorithm, _, checksum = expected.checksum.partition(":")
    hasher = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
    size = 0
    wanted = {"Accept-Encoding": "identity", **(headers or {})}
    with client.stream("GET", url, headers=wanted) as answer, destination.open("wb") as sink:
        if not answer.is_success:
            raise RepositoryError(f"{expected.name} could not be downloaded: its host answered {answer.status_code}")
        for chunk in answer.iter_bytes(_CHUNK):
            size += len(chunk)
            if size > limit or 0 <= expected.size < size:
                what = f"the {limit / 1e6:.0f} MB that may be fetched" if size > limit else "it is said to be"
                raise RepositoryError(f"{expected.name} is bigger than {what}")
            sink.write(chunk)
            if hasher:
                hasher.update(chunk)
    if 0 <= expected.size != size:
        raise RepositoryError(f"{expected.name} has {size} bytes and not the {expected.size} it is said to have")
    if hasher and hasher.hexdigest() != checksum.lower():
        raise RepositoryError(f"{expected.name} has not the {algorithm} checksum it is said to have; try again later")
    return size
