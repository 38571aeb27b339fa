"""Sends requests to one registry: https or http, login, redirects, retries, and faults told in one sentence.

What a request means is not known here (``client.py`` and ``upload.py`` know). Three rules hold for all of them:

- A fault that can pass (no connection, a timeout, 429, 502-504, and 500 where repeating does no harm) is tried again
  with growing pauses, or after ``Retry-After``. What stays is raised; it never looks like "there is no such thing".
- ``Authorization`` goes to the registry's own scheme, host and port, wherever a redirect or a ``Location`` points.
- URLs in messages have no query: upload sessions and signed URLs carry secrets there.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx

from registry_sync.auth import Authenticator
from registry_sync.credentials import Credentials
from registry_sync.errors import NotFoundError, RegistryAuthError, RegistryError
from registry_sync.faults import RegistryFaultError, read_errors, read_retry_after
from registry_sync.reference import DOCKER_HUB, validate_registry
from registry_sync.retries import ATTEMPTS, Retries

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

ATTEMPTS_UNSEEN = 3  # for a registry that has never answered: more likely a wrong address than a passing fault
REDIRECTS_MAX = 5
PROBE_SECONDS = 5.0
BODY_BYTES_MAX = 64 * 2**20
CONNECTIONS_MAX = 64
DOCKER_HUB_HOST = "registry-1.docker.io"

_PASSING = frozenset({408, 429, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_log = logging.getLogger(__name__)
logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs whole URLs, signed ones too


@dataclass(frozen=True)
class Answer:
    """A registry's answer, read whole; ``url`` is where it came from in the end."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: httpx.URL


@dataclass(frozen=True)
class Traffic:
    """What was sent: requests (those for tokens and those that were repeated included), bytes of their bodies."""

    requests: int = 0
    sent: int = 0


class RegistryTransport:
    """A thread-safe connection pool to one registry. Close it, or use it as a context manager.

    ``insecure=True`` means plain http, ``False`` https only, ``None`` https except for a loopback host that does not
    speak it (Docker's rule). ``ca_bundle`` is trusted in addition to the system's CAs (and ``SSL_CERT_FILE``).
    ``timeout`` is in seconds of silence, not of the whole transfer.
    """

    def __init__(
        self,
        registry: str,
        *,
        insecure: bool | None,
        credentials: Credentials | Callable[[str], Credentials | None] | None,
        ca_bundle: Path | None,
        timeout: float,
        sleep: Callable[[float], None],
        transport: httpx.BaseTransport | None,
    ) -> None:
        self.registry = validate_registry(registry)
        self._authority = DOCKER_HUB_HOST if registry == DOCKER_HUB else registry
        self._host = httpx.URL(f"https://{self._authority}").host
        self._loopback = is_loopback(self._host)
        self._insecure = insecure
        self._scheme = "http" if insecure else None if insecure is None and self._loopback else "https"
        self._scheme_lock = threading.Lock()
        self._answered = False
        self._traffic_lock = threading.Lock()
        self.traffic = Traffic()
        self._retries = Retries(sleep)
        if credentials is None or isinstance(credentials, Credentials):
            given = credentials
            self._auth = Authenticator(registry, lambda _: given, self._fetch_token)
        else:
            self._auth = Authenticator(registry, credentials, self._fetch_token)
        self._clients: dict[bool, httpx.Client] = {}
        self._clients_lock = threading.Lock()
        self._tls = partial(_tls, ca_bundle)
        self._new_client = partial(
            httpx.Client,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 15.0), pool=None),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            headers={"User-Agent": user_agent(), "Accept-Encoding": "identity"},
            follow_redirects=False,
            transport=transport,
            trust_env=not self._loopback,  # a site's proxy has no way to our loopback interface
        )
        if not self._loopback:
            self._client(plain=False)  # a CA bundle that is none is told at once

    def __enter__(self) -> RegistryTransport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    def request(
        self,
        method: str,
        target: str | httpx.URL,
        *,
        doing: str,
        scopes: Iterable[str],
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterable[bytes]] | bytes | None = None,
        retry: bool = True,
        timeout: float | None = None,
    ) -> Answer:
        """Send a request and return the answer, read whole, if its status is in ``expect``.

        ``target`` is a path on the registry or a URL from its answers; ``doing`` completes "could not ..." in messages.
        ``body()`` is called for every try. Raises :class:`NotFoundError` for 404, :class:`RegistryAuthError` for 401
        and 403, and :class:`RegistryFaultError` for everything else, at once if ``retry`` is false.
        """

        def once() -> Answer:
            response = self._exchange(method, target, doing, frozenset(scopes), headers, body, timeout)
            try:
                self._check(response, method, doing, expect)
                return Answer(response.status_code, response.headers, self._read(response, doing), response.url)
            finally:
                response.close()

        return self._retries.run(once, self._attempts) if retry else once()

    @contextmanager
    def stream(
        self,
        method: str,
        target: str | httpx.URL,
        *,
        doing: str,
        scopes: Iterable[str],
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """Like :meth:`request`, but the answer's body is still to be read, by :meth:`body`."""

        def once() -> httpx.Response:
            response = self._exchange(method, target, doing, frozenset(scopes), headers, None, None)
            try:
                self._check(response, method, doing, expect)
            except BaseException:
                response.close()
                raise
            return response

        response = self._retries.run(once, self._attempts)
        try:
            yield response
        finally:
            response.close()

    def body(self, response: httpx.Response, doing: str) -> Iterator[bytes]:
        """Yield a streamed answer's bytes as sent; a broken connection raises a passing :class:`RegistryFaultError`."""
        try:
            yield from response.iter_raw()
        except httpx.TransportError as error:
            raise self._unreachable(error, response.url, doing) from error

    def pause(self, attempt: int, retry_after: float | None = None) -> None:
        """Sleep before try ``attempt + 1`` (``attempt`` counts from 1)."""
        self._retries.pause(attempt, retry_after)

    def _attempts(self) -> int:
        return ATTEMPTS if self._answered else ATTEMPTS_UNSEEN

    def _exchange(
        self,
        method: str,
        target: str | httpx.URL,
        doing: str,
        scopes: frozenset[str],
        headers: Mapping[str, str] | None,
        body: Callable[[], Iterable[bytes]] | bytes | None,
        timeout: float | None,
    ) -> httpx.Response:
        """Send one request, log in if asked to, follow redirects; return the open answer of any status."""
        origin = self._origin(doing)
        url = httpx.URL(origin + target) if isinstance(target, str) else target
        for _ in range(REDIRECTS_MAX + 1):
            ours = _origin_of(url) == _origin_of(httpx.URL(origin))
            authorization = self._auth.authorization(scopes) if ours else None
            response = self._send(method, url, doing, headers, body, authorization, timeout)
            if response.status_code == 401 and ours:
                challenges = response.headers.get_list("www-authenticate")
                _drain(response)
                authorization = self._auth.answer(challenges, scopes, refused=authorization)
                response = self._send(method, url, doing, headers, body, authorization, timeout)
            follow = _REDIRECTS if method in ("GET", "HEAD") else frozenset({307, 308})
            if response.status_code not in follow or "location" not in response.headers:
                return response
            _drain(response)
            url = self._next(url, response.headers["location"], doing)
        raise RegistryFaultError(f"{self.registry} could not {doing}: it redirects more than {REDIRECTS_MAX} times")

    def _next(self, url: httpx.URL, location: str, doing: str) -> httpx.URL:
        try:
            following = url.join(location)
        except httpx.InvalidURL as error:
            raise RegistryFaultError(f"{self.registry} could not {doing}: it redirects to what is no URL") from error
        if following.scheme not in ("http", "https") or (url.scheme == "https" and following.scheme == "http"):
            raise RegistryFaultError(
                f"{self.registry} could not {doing}: it redirects from {url.scheme} to {following.scheme}, "
                "which is not followed"
            )
        return following

    def _send(
        self,
        method: str,
        url: httpx.URL,
        doing: str,
        headers: Mapping[str, str] | None,
        body: Callable[[], Iterable[bytes]] | bytes | None,
        authorization: str | None,
        timeout: float | None,
    ) -> httpx.Response:
        sent = dict(headers or {})
        if authorization is not None:
            sent["Authorization"] = authorization
        limits = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout, connect=15.0, pool=None)
        content = body() if callable(body) else body
        try:
            client = self._client(plain=self._loopback and url.scheme == "http")
            request = client.build_request(method, url, headers=sent, content=content, timeout=limits)
            self._count(request)
            response = client.send(request, stream=True)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error, url, doing) from error
        self._answered = True
        return response

    def _count(self, request: httpx.Request) -> None:
        sent = int(request.headers.get("content-length", "0"))
        with self._traffic_lock:
            self.traffic = Traffic(self.traffic.requests + 1, self.traffic.sent + sent)

    def _client(self, *, plain: bool) -> httpx.Client:
        """Return the pool for plain connections, which trusts nobody, or the one that knows all CAs.

        Reading the system's CAs takes longer than any request on a loopback interface, so it is left until needed.
        """
        with self._clients_lock:
            if plain not in self._clients:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else self._tls()
                self._clients[plain] = self._new_client(verify=context)
            return self._clients[plain]

    def _origin(self, doing: str) -> str:
        """Return ``scheme://host:port``; for a loopback host, find out (once it answers) which scheme it speaks."""
        if self._scheme is None:
            with self._scheme_lock:
                if self._scheme is None:
                    self._scheme = self._probe(doing)
        return f"{self._scheme}://{self._authority}"

    def _probe(self, doing: str) -> str:
        url = httpx.URL(f"https://{self._authority}/v2/")
        try:
            self._client(plain=True).get(url, timeout=PROBE_SECONDS)
        except httpx.TransportError as error:
            if _is_certificate_problem(error):
                return "https"
            if isinstance(error, httpx.ConnectError) and not _caused_by(error, ssl.SSLError):
                raise self._unreachable(error, url, doing) from error
            return "http"
        return "https"

    def _check(self, response: httpx.Response, method: str, doing: str, expect: Collection[int]) -> None:
        status = response.status_code
        if status in expect:
            return
        codes: tuple[str, ...] = ()
        said = ""
        with suppress(RegistryError):
            codes, said = read_errors(self._read(response, doing))
        said = f" ({said})" if said else ""
        where = "" if response.url.host == self._host else f" at {response.url.host}"
        if status in (401, 403) and not where:
            who = self._auth.user
            whom = f"{who}: check the password or token, and the permissions" if who else "anyone without a login"
            login = "" if who else f"; run 'docker login {self.registry}'"
            raise RegistryAuthError(f"{self.registry} did not let us {doing} as {whom}{login}{said}")
        if status == 404:
            raise NotFoundError(f"{self.registry} could not {doing}: there is no such thing{said}")
        repeatable = method in ("GET", "HEAD", "PUT", "PATCH", "DELETE")
        raise RegistryFaultError(
            f"{self.registry} could not {doing}: it answered {status} {response.reason_phrase}{where}{said}",
            status=status,
            codes=codes,
            transient=status in _PASSING or (status == 500 and repeatable),
            retry_after=read_retry_after(response.headers.get("retry-after")),
        )

    def _read(self, response: httpx.Response, doing: str) -> bytes:
        """Return an open answer's body, at most :data:`BODY_BYTES_MAX` bytes."""
        body = bytearray()
        for chunk in self.body(response, doing):
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise RegistryFaultError(f"{self.registry} could not {doing}: it answered with too many bytes")
        return bytes(body)

    def _unreachable(self, error: Exception, url: httpx.URL, doing: str) -> RegistryFaultError:
        at = self.registry if url.host == self._host else url.host
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return RegistryFaultError(f"{self.registry} could not {doing}: it pointed to something that is no URL")
        if _is_certificate_problem(error):
            return RegistryFaultError(
                f"could not {doing}: the certificate of {at} is not trusted; "
                "give its CA as a CA bundle or in SSL_CERT_FILE"
            )
        reason = "it did not answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or "cut off"
        return RegistryFaultError(
            f"could not {doing}: no connection to {at} ({reason}); check its address, the network and any proxy",
            transient=not isinstance(error, httpx.LocalProtocolError),
        )

    def _fetch_token(
        self, url: str, *, parameters: list[tuple[str, str]], authorization: str | None, form: bool
    ) -> Mapping[str, Any]:
        """Ask a token server; one try, since whoever needs the token is in a retry of its own."""
        doing = "get a token"
        try:
            realm = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise RegistryFaultError(f"{self.registry} names a token server that is no URL") from error
        secret = authorization is not None or form
        if realm.scheme != "https" and secret and not (is_loopback(realm.host) or self._insecure):
            raise RegistryAuthError(f"{self.registry} wants our password sent unencrypted to {realm.host}: refused")
        if form:
            data = urlencode(parameters).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._send("POST", realm, doing, headers, data, None, None)
        else:
            realm = realm.copy_with(params=tuple(realm.params.multi_items()) + tuple(parameters))
            response = self._send("GET", realm, doing, None, None, authorization, None)
        try:
            if response.status_code in (400, 401, 403) and secret:
                raise RegistryAuthError(
                    f"{self.registry} refused the credentials of {self._auth.user}: check user name, password or token"
                )
            self._check(response, "GET", doing, (200,))
            body = self._read(response, doing)
        except NotFoundError as error:
            raise RegistryFaultError(f"the token server {realm.host} of {self.registry} has no such address") from error
        finally:
            response.close()
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise RegistryFaultError(f"the token server of {self.registry} did not answer with a JSON object")
        return document


def user_agent() -> str:
    """Return how this program introduces itself."""
    try:
        return f"casabinder/{metadata.version('casabinder')}"
    except metadata.PackageNotFoundError:
        return "casabinder"


def is_loopback(host: str) -> bool:
    """Say whether ``host`` is this machine's own interface."""
    return host in _LOOPBACK or host.startswith("127.") or host.endswith(".localhost")


def _tls(ca_bundle: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_bundle is not None:
        try:
            context.load_verify_locations(cafile=ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(f"the CA bundle {ca_bundle} cannot be read as PEM certificates") from error
    return context


def _origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _drain(response: httpx.Response) -> None:
    """Finish an answer nobody reads: a short body is read so that its connection can be used again."""
    try:
        if int(response.headers.get("content-length", "65537")) <= 65536:
            response.read()
    except (ValueError, httpx.TransportError):
        _log.debug("an answer's body was cut off", exc_info=True)
    finally:
        response.close()


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_certificate_problem(error: Exception) -> bool:
    return _caused_by(error, ssl.SSLCertVerificationError)
