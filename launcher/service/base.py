"""What every handler of the launch service does alike: who asks, headers, errors, bodies and event streams.

A handler is found in a module's ``ROUTES`` and says with two class attributes what it is: ``page`` (HTML for people:
errors are pages, login is a redirect) and ``public`` (needs no login). Pages render nothing private: their cookie at
``/`` also goes to every notebook server, so it says little (:mod:`launcher.service.authentication`); what is private
they fetch from ``/api``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from launcher.refusal import RefusedError
from launcher.service.proxies import network_of
from launcher.service.responses import SECURITY_HEADERS, cors_headers, error_document, failure, first_problem
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tornado.web import Application

    from launcher.security.principal import Principal
    from launcher.service.services import Services
    from launcher.site_config import Rate

BODY_LIMIT = 64 * 1024
KEEPALIVE = 25.0
SLOW = 60.0
"""Seconds that a client may take to read what an event stream has for it."""
STREAMS = "streams"
"""The application's setting with the handlers that are sending event streams."""
READING = frozenset(("GET", "HEAD", "OPTIONS"))

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_DOCUMENT: TypeAdapter[Any] = TypeAdapter(Any)
_Model = TypeVar("_Model", bound=BaseModel)


@stream_request_body
class BaseHandler(RequestHandler):
    """A handler of the launch service. ``allowed`` methods follow from what a subclass defines; HEAD goes with GET."""

    SUPPORTED_METHODS: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    page: ClassVar[bool] = False
    public: ClassVar[bool] = False
    body_limit: ClassVar[int] = BODY_LIMIT

    request_id = ""
    _principal: Principal | None = None
    _body = b""
    _left = False
    _read = False
    _stream: asyncio.Task[None] | None = None

    @property
    def services(self) -> Services:
        """The rooms that the application was made with."""
        services: Services = self.settings["services"]
        return services

    @classmethod
    def allowed(cls) -> list[str]:
        """Return the methods that the resource has, for ``Allow``."""
        own = [name for name in cls.SUPPORTED_METHODS if getattr(cls, name.lower()) is not RequestHandler.get]
        return [name for name in own if name != "HEAD" or "GET" in own]

    def set_default_headers(self) -> None:
        """Set what every response has, errors too."""
        self.clear_header("Server")
        for name, value in SECURITY_HEADERS.items():
            self.set_header(name, value)
        for name, value in cors_headers(
            self.services.site.service.cors, self.request.headers.get("Origin", "")
        ).items():
            self.set_header(name, value)
        if self.request_id:
            self.set_header("X-Request-Id", self.request_id)

    def initialize(self) -> None:
        """Give the request its id, and have it checked before its method runs.

        Not in ``prepare``, which is called before the body is read: a connection on which something unread is left is
        reset, and the answer with it.
        """
        stated = self.request.headers.get("X-Request-Id", "")
        self.request_id = stated if _REQUEST_ID.fullmatch(stated) else secrets.token_hex(8)
        self.set_header("X-Request-Id", self.request_id)
        method = (self.request.method or "").lower()
        if method.upper() in self.SUPPORTED_METHODS:
            setattr(self, method, partial(self._checked, getattr(self, method)))

    async def _checked(self, method: Callable[..., Awaitable[None] | None], *args: str, **kwargs: str) -> None:
        self._read = True
        await self.check()
        if not self._finished:
            answer = method(*args, **kwargs)
            if answer is not None:
                await answer

    def finish(self, chunk: Any = None) -> Future[None]:
        """End the answer, and say so if it is given before the request is read and so ends the connection."""
        if not self._read and not self._headers_written:
            self.set_header("Connection", "close")
        return super().finish(chunk)

    async def check(self) -> None:
        """Refuse what no handler should see: banned networks, other sites' changes, people who did not log in."""
        if self.request.method not in self.allowed():
            raise HTTPError(405)
        if self.request.method == "OPTIONS" or self.public:
            return
        authentication = self.services.authentication
        authentication.refuse_banned(self.address)
        self._refuse_other_sites()
        if self.page:
            await authentication.prepare_page(self)

    @property
    def address(self) -> str:
        """The client's IP address: what trusted proxies say, else the peer's."""
        return self.services.authentication.proxies.client(
            self.request.remote_ip or "", self.request.headers.get_list("X-Forwarded-For")
        )

    @property
    def secure(self) -> bool:
        """Whether the browser speaks https with us or with a trusted proxy."""
        url = self.services.site.service.url
        if url:
            return url.startswith("https:")
        forwarded = self.request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip()
        trusted = self.services.authentication.proxies.trusts(self.request.remote_ip or "")
        return (forwarded if trusted and forwarded else self.request.protocol) == "https"

    @property
    def origin(self) -> str:
        """The address that browsers see, without a path: ``https://host[:port]``."""
        url = self.services.site.service.url
        if url:
            parts = urlsplit(url)
            return f"{parts.scheme}://{parts.netloc}"
        return f"{'https' if self.secure else 'http'}://{self.request.host}"

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self.services.authentication.now()

    async def principal(self) -> Principal:
        """Return who asks; raise :class:`RefusedError` 401 or 403 for those who must say so and don't."""
        if self._principal is None:
            self._principal = await self.services.authentication.principal(self)
        return self._principal

    async def take(self, what: str, rate: Rate | None = None) -> None:
        """Count one request of a visitor's network against the site's rate; raise :class:`RefusedError` 429 beyond it.

        Those whom the hub vouches for are not counted. ``what`` is a bounded name such as ``launch``.
        """
        asking = await self.principal()
        rate = rate or self.services.site.service.rate
        if asking.known or not rate.requests:
            return
        name = f"{what}:{network_of(asking.address)}"
        allowance = await asyncio.to_thread(self.services.rates.take, name, rate, self.now())
        self.set_header("X-RateLimit-Limit", str(allowance.limit))
        self.set_header("X-RateLimit-Remaining", str(allowance.remaining))
        self.set_header("X-RateLimit-Reset", str(int(allowance.reset)))

    def data_received(self, chunk: bytes) -> None:
        """Keep as much of the body as may come; the rest is read and dropped, so that the answer can be read."""
        if len(self._body) <= self.body_limit:
            self._body += chunk

    def json_body(self, model: type[_Model]) -> _Model:
        """Return the request's JSON body; raise :class:`RefusedError` naming the entry at fault."""
        if len(self._body) > self.body_limit:
            raise RefusedError(f"the request is larger than {self.body_limit // 1024} kB", 413)
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RefusedError("send the request as JSON, with `Content-Type: application/json`", 415)
        try:
            return model.model_validate_json(self._body)
        except ValidationError as error:
            raise RefusedError(f"the request can't be used: {first_problem(error)}") from error

    def query(self, model: type[_Model]) -> _Model:
        """Return the query's arguments; raise :class:`RefusedError` naming the one at fault.

        What is not in the model is ignored; the last of several values counts.
        """
        stated = self.request.query_arguments
        try:
            # As it was sent: tornado's own reading takes control characters out.
            known = {name: stated[name][-1].decode("utf-8") for name in model.model_fields if stated.get(name)}
            return model.model_validate(known)
        except UnicodeDecodeError as error:
            raise RefusedError("the query is not UTF-8 text") from error
        except ValidationError as error:
            raise RefusedError(f"the query can't be used: {first_problem(error)}") from error

    def finish_json(self, document: object, status: int = 200) -> None:
        """Answer with a JSON document (plain values or pydantic models, also nested)."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(_DOCUMENT.dump_json(document))

    async def sse(self, frames: AsyncIterator[bytes], keepalive: str = "keepalive") -> None:
        """Send an event stream until ``frames`` ends or the client leaves, which closes ``frames``.

        A frame holds one or more whole events; what is ready at once should come as one. A comment is sent when
        nothing was for :data:`KEEPALIVE` seconds. A client that does not read for :data:`SLOW` seconds is let go.
        """
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-cache, no-transform")
        self.set_header("X-Accel-Buffering", "no")
        if self.request.method == "HEAD":
            self.finish()
            return
        self._stream = asyncio.ensure_future(self._send(frames, f":{keepalive}\n\n".encode()))
        streams: set[BaseHandler] = self.settings.setdefault(STREAMS, set())
        streams.add(self)
        try:
            await self._stream
        except asyncio.CancelledError:
            if not self._left:
                raise
        finally:
            streams.discard(self)

    async def _send(self, frames: AsyncIterator[bytes], comment: bytes) -> None:
        loop = asyncio.get_running_loop()
        lock = asyncio.Lock()
        sent = loop.time()

        async def put(data: bytes) -> None:
            nonlocal sent
            async with lock:
                self.write(data)
                try:
                    await asyncio.wait_for(self.flush(), SLOW)
                except TimeoutError:
                    self.detach().close()  # what is written would wait for this client for ever
                    raise StreamClosedError from None
                sent = loop.time()

        async def keep_alive() -> None:
            while True:
                await asyncio.sleep(max(0.0, sent + KEEPALIVE - loop.time()))
                if loop.time() >= sent + KEEPALIVE:
                    await put(comment)

        async def copy() -> None:
            await put(b"")  # the headers: a client sees that the stream is open before anything happens
            async for frame in frames:
                await put(frame)

        tasks = [asyncio.ensure_future(copy()), asyncio.ensure_future(keep_alive())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except StreamClosedError:
            self._left = True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if isinstance(frames, AsyncGenerator):
                await frames.aclose()

    def on_connection_close(self) -> None:
        """End the event stream of a client that has left."""
        super().on_connection_close()
        self.end_stream()

    def end_stream(self) -> None:
        """End the event stream, if there is one, as if everything were told; a client that is there comes back."""
        self._left = True
        if self._stream is not None:
            self._stream.cancel()

    async def head(self, *args: str, **kwargs: str) -> None:
        """Answer as GET would, without the body."""
        answer = self.get(*args, **kwargs)
        if answer is not None:
            await answer

    def options(self, *_: str, **__: str) -> None:
        """Say what the resource allows; :meth:`set_default_headers` says to which other sites."""
        self.set_header("Allow", ", ".join(self.allowed()))
        if self.request.headers.get("Access-Control-Request-Method"):
            self.set_header("Access-Control-Allow-Methods", ", ".join(self.allowed()))
        self.set_status(204)
        self.finish()

    def compute_etag(self) -> str | None:
        """Return none: answers are of the moment."""
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the sentence for what went wrong: a page for people on pages, else JSON."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        refused = failure(error, status_code, self.request_id)
        self.set_status(refused.status)
        if refused.retry_after:
            self.set_header("Retry-After", str(refused.retry_after))
        if refused.status == HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", "Bearer")
        if refused.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self.allowed()))
        self.set_header("Cache-Control", "no-store")
        people = self.page and not self.request.path.startswith("/api/")
        if people and "text/html" in self.request.headers.get("Accept", ""):
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.finish(self.settings["error_page"](self, refused.status, str(refused)))
            return
        self.set_header("Content-Type", "application/json")
        self.finish(_DOCUMENT.dump_json(error_document(refused.status, str(refused), self.request_id)))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what the service is to blame for; the rest is in the access log."""
        if isinstance(value, (HTTPError, RefusedError, StreamClosedError)):
            return
        if isinstance(value, CasabinderError):
            _log.warning("%s: %s", self._request_summary(), value, exc_info=value.__cause__)
        else:
            _log.error("%s", self._request_summary(), exc_info=(typ, value, tb), extra={"request_id": self.request_id})

    def _request_summary(self) -> str:
        # Without the query, which may hold tokens.
        return f"{self.request.method} {self.request.path} ({self.address})"

    def _refuse_other_sites(self) -> None:
        """Refuse a change that another site's page asks for with this browser's cookies (or without any)."""
        headers = self.request.headers
        if self.request.method in READING or "Authorization" in headers:
            return
        origin = headers.get("Origin", "")
        allowed = self.services.site.service.cors
        if origin and (origin in allowed or "*" in allowed):
            return
        own = {self.request.host, urlsplit(self.origin).netloc}
        if origin and urlsplit(origin).netloc not in own - {""}:
            raise RefusedError("this change was asked for by another site's page", 403)
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise RefusedError("this change was asked for by another site's page", 403)


async def end_streams(app: Application) -> None:
    """End all event streams properly: of a connection that breaks, a proxy in between may tell the client nothing."""
    while streams := app.settings.get(STREAMS):
        for handler in list(streams):
            handler.end_stream()
        await asyncio.sleep(0.01)


class NotFoundHandler(BaseHandler):
    """Whatever no route fits."""

    page = True
    public = True

    async def check(self) -> None:
        """Refuse it, by whatever method."""
        raise HTTPError(404)
