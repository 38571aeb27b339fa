"""Uploads one blob: whole in one request, or in chunks that can go on where a connection broke.

Two ways of the distribution specification ("Pushing blobs"), and when each is taken::

    whole     POST uploads/ -> Location      one request, the fastest: no pause between chunks, nothing in memory.
              PUT  Location?digest=...       A broken connection costs everything sent so far.

    chunked   POST uploads/ -> Location      a broken connection costs at most one chunk: GET Location tells how far
              PATCH Location (bytes a-b)     the registry got. Each answer's Location replaces the one before.
              ...
              PUT  Location?digest=...

A blob of up to :data:`WHOLE_BYTES_MAX` goes whole at first, since on a healthy network that is the quickest and every
registry supports it. A larger one, or one whose first upload broke, goes in chunks. If the registry forgets the
session (404) the upload starts over, a bounded number of times; an upload that is given up is cancelled.

A blob that is still being written goes in chunks as they come (:class:`GrowingUpload`), its digest with the last.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

import httpx

from registry_sync.errors import DigestMismatchError, NotFoundError, RegistryError
from registry_sync.faults import RegistryFaultError
from registry_sync.manifest import Descriptor
from registry_sync.reference import validate_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry_sync.transport import Answer, RegistryTransport

CHUNK_BYTES = 16 * 2**20
WHOLE_BYTES_MAX = 512 * 2**20
READ_BYTES = 2**20
UPLOADS_MAX = 4
CHUNK_TRIES_MAX = 6
COMMIT_TIMEOUT_SECONDS = 600.0  # a registry may move the bytes to an object store before it answers

_OCTETS = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_SESSION_CODES = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})

_log = logging.getLogger(__name__)


class _SessionLostError(Exception):
    """The upload has to start over; the cause says why."""


def upload_blob(
    transport: RegistryTransport,
    repository: str,
    descriptor: Descriptor,
    source: Callable[[], BinaryIO],
    progress: Callable[[int], None] | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    whole_bytes_max: int = WHOLE_BYTES_MAX,
) -> None:
    """Make ``descriptor.size`` bytes from ``source()`` a blob of ``repository``; at most 1 MiB is held in memory.

    ``progress`` gets the number of bytes newly accepted by the registry, and never counts a byte twice. Raises
    :class:`DigestMismatchError` if ``source`` has other bytes than ``descriptor`` says.
    """
    validate_digest(descriptor.digest)
    upload = _Upload(transport, repository, descriptor, source, progress)
    chunked = descriptor.size > whole_bytes_max
    for attempt in range(1, UPLOADS_MAX + 1):
        try:
            upload.run(chunk_bytes if chunked else None)
            return
        except _SessionLostError as lost:
            fault = lost.__cause__
            if attempt == UPLOADS_MAX:
                raise RegistryError(
                    f"{transport.registry} broke off the upload of {descriptor.digest} to {repository} "
                    f"{attempt} times: {fault}"
                ) from fault
            _log.info("upload of %s to %s starts over: %s", descriptor.digest, repository, fault)
            transport.pause(attempt, fault.retry_after if isinstance(fault, RegistryFaultError) else None)
            if upload.is_stored():  # the answer was lost, not the blob
                upload.report(descriptor.size)
                return
            chunked = True


def cancel_upload(transport: RegistryTransport, repository: str, location: httpx.URL) -> None:
    """Tell the registry to forget an upload session; if it does not listen, it will forget by itself some day."""
    scopes = (f"repository:{repository}:pull,push,delete",)
    try:
        transport.request(
            "DELETE", location, doing="cancel an upload", scopes=scopes, expect=(200, 202, 204), retry=False
        )
    except (RegistryError, NotFoundError) as error:
        _log.debug("an upload session of %s was left behind: %s", repository, error)


def session_location(answer: Answer) -> httpx.URL:
    """Return where an upload goes on: the answer's ``Location`` as it is, absolute or relative to what was asked."""
    try:
        return answer.url.join(answer.headers["location"])
    except (KeyError, httpx.InvalidURL) as error:
        raise RegistryError(f"{answer.url.host} opened an upload without a usable Location") from error


class _Upload:
    """One blob's way to one repository; ``location`` is the open session's newest address."""

    def __init__(
        self,
        transport: RegistryTransport,
        repository: str,
        descriptor: Descriptor,
        source: Callable[[], BinaryIO],
        progress: Callable[[int], None] | None,
    ) -> None:
        self.transport = transport
        self.repository = repository
        self.digest = descriptor.digest
        self.size = descriptor.size
        self.source = source
        self.progress = progress
        self.reported = 0
        self.doing = f"store {descriptor.digest} in {repository}"
        self.scopes = (f"repository:{repository}:pull,push",)

    def report(self, accepted: int) -> None:
        """Report progress up to ``accepted`` bytes in all."""
        if self.progress is not None and accepted > self.reported:
            self.progress(accepted - self.reported)
        self.reported = max(self.reported, accepted)

    def is_stored(self) -> bool:
        path = f"/v2/{self.repository}/blobs/{self.digest}"
        answer = self.transport.request("HEAD", path, doing=self.doing, scopes=self.scopes, expect=(200, 404))
        return answer.status == 200 and answer.headers.get("content-length") == str(self.size)

    def run(self, chunk_bytes: int | None) -> None:
        """Upload in one session, whole or in chunks; on any error cancel it."""
        answer = self.begin()
        try:
            with _Source(self.source, self.size, self.doing) as source:
                if chunk_bytes is not None:
                    least = answer.headers.get("oci-chunk-min-length", "")
                    self._send_chunks(source, max(chunk_bytes, int(least) if least.isdecimal() else 0))
                    self.commit()
                else:
                    self.commit(lambda: source.pieces(0, self.size), self.size)
        except BaseException:
            cancel_upload(self.transport, self.repository, self.location)
            raise
        self.report(self.size)

    def begin(self) -> Answer:
        """Open a session and return the registry's answer."""
        path = f"/v2/{self.repository}/blobs/uploads/"
        answer = self.transport.request("POST", path, doing=self.doing, scopes=self.scopes, expect=(202,))
        self.location = session_location(answer)
        return answer

    def commit(self, body: Callable[[], Iterator[bytes] | tuple[()]] = lambda: (), length: int = 0) -> None:
        """PUT the (rest of the) bytes with the digest, which makes the session's content a blob."""
        location = str(self.location)
        url = httpx.URL(f"{location}{'&' if '?' in location else '?'}digest={quote(self.digest, safe='')}")
        headers = {**_OCTETS, "Content-Length": str(length)}
        try:
            self.transport.request(
                "PUT",
                url,
                doing=self.doing,
                scopes=self.scopes,
                expect=(201,),
                headers=headers,
                body=body,
                retry=False,
                timeout=COMMIT_TIMEOUT_SECONDS,
            )
        except NotFoundError as error:
            raise _SessionLostError from error
        except RegistryFaultError as fault:
            if "DIGEST_INVALID" in fault.codes:
                raise DigestMismatchError(f"{fault}; what was read has other bytes than announced") from fault
            if fault.transient or _SESSION_CODES & set(fault.codes):
                raise _SessionLostError from fault
            raise

    def _send_chunks(self, source: _Source, chunk_bytes: int) -> None:
        offset = tries = 0
        while offset < self.size:
            end = min(offset + chunk_bytes, self.size)
            try:
                accepted = self.patch(source, offset, end)
            except RegistryFaultError as fault:
                tries += 1
                if not fault.transient and fault.status != 416:
                    if _SESSION_CODES & set(fault.codes):
                        raise _SessionLostError from fault
                    raise
                if tries >= CHUNK_TRIES_MAX:
                    raise _SessionLostError from fault
                if fault.transient:
                    self.transport.pause(tries, fault.retry_after)
                accepted = self._ask_status()
            if accepted > self.size:
                raise _SessionLostError from RegistryError(f"the session has {accepted} bytes, the blob {self.size}")
            if accepted > offset:
                tries = 0
            elif (tries := tries + 1) >= CHUNK_TRIES_MAX:
                raise _SessionLostError from RegistryError(f"the registry accepts no bytes after {offset}")
            offset = accepted
            self.report(offset)

    def patch(self, source: _Source, offset: int, end: int) -> int:
        """Send bytes ``offset`` to ``end`` (exclusive); return how many the session has now."""
        headers = {**_OCTETS, "Content-Length": str(end - offset), "Content-Range": f"{offset}-{end - 1}"}
        try:
            answer = self.transport.request(
                "PATCH",
                self.location,
                doing=self.doing,
                scopes=self.scopes,
                expect=(202,),
                headers=headers,
                body=lambda: source.pieces(offset, end),
                retry=False,
            )
        except NotFoundError as error:
            raise _SessionLostError from error
        self.location = session_location(answer)
        return _accepted(answer, otherwise=end)

    def _ask_status(self) -> int:
        """Return how many bytes the registry has got of the session."""
        try:
            answer = self.transport.request(
                "GET", self.location, doing=self.doing, scopes=self.scopes, expect=(204, 200, 202)
            )
        except NotFoundError as error:
            raise _SessionLostError from error
        if "location" in answer.headers:
            self.location = session_location(answer)
        return _accepted(answer, otherwise=0)


class GrowingUpload:
    """Uploads a file while it is being written: :meth:`send` what is there, :meth:`commit` when it is whole.

    Nothing is tried twice. At the first fault the upload is off, and :meth:`commit` says so: the file is there, and can
    be uploaded as any other. Close it in any case, or use it as a context manager.
    """

    def __init__(self, transport: RegistryTransport, repository: str, source: BinaryIO) -> None:
        self._transport = transport
        self._repository = repository
        self._source = source
        self._upload: _Upload | None = None
        self._sent = 0
        self._off = False

    def __enter__(self) -> GrowingUpload:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()
        self._cancel()

    def send(self, end: int) -> None:
        """Send the file's bytes up to ``end`` (exclusive), which are written."""
        if self._off or end <= self._sent:
            return
        try:
            if self._upload is None:
                unknown = Descriptor("application/octet-stream", f"sha256:{'0' * 64}", end)
                upload = _Upload(self._transport, self._repository, unknown, lambda: self._source, None)
                upload.doing = f"store a layer in {self._repository}"
                upload.begin()
                self._upload = upload
            reader = _Source(lambda: self._source, -1, self._upload.doing)
            if self._upload.patch(reader, self._sent, end) != end:
                raise RegistryError(f"{self._transport.registry} took a part of a chunk")
            self._sent = end
        except (RegistryError, NotFoundError, _SessionLostError) as fault:
            _log.info("the upload of a growing blob to %s is off: %s", self._repository, fault)
            self._off = True

    def commit(self, descriptor: Descriptor) -> bool:
        """Send what is left and make it the blob ``descriptor``; ``False`` if that is still to be done."""
        self.send(descriptor.size)
        if self._off or self._upload is None:
            return False
        try:
            self._upload.digest = descriptor.digest
            self._upload.commit()
        except (RegistryError, NotFoundError, _SessionLostError) as fault:
            _log.info("the upload of %s to %s is off: %s", descriptor.digest, self._repository, fault)
            self._off = True
            return False
        self._upload = None
        return True

    def _cancel(self) -> None:
        if self._upload is not None:
            cancel_upload(self._transport, self._repository, self._upload.location)
            self._upload = None


def _accepted(answer: Answer, otherwise: int) -> int:
    """Return the number of bytes of ``Range: 0-<end>``; ``0-0`` is docker-registry's way to say none (or one)."""
    match = _RANGE.fullmatch(answer.headers.get("range", "").strip())
    if match is None:
        return otherwise
    end = int(match[1])
    return end + 1 if end > 0 else int(otherwise == 1)


class _Source:
    """Reads any part of what ``open_source()`` gives, going forward in one open file as long as possible."""

    def __init__(self, open_source: Callable[[], BinaryIO], size: int, doing: str) -> None:
        self._open_source = open_source
        self._size = size
        self._doing = doing
        self._file: BinaryIO | None = None
        self._position = 0

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield bytes ``start`` to ``end`` (exclusive); if ``end`` is the size, the file must end there."""
        file = self._at(start)
        while self._position < end:
            piece = file.read(min(READ_BYTES, end - self._position))
            if not piece:
                raise DigestMismatchError(
                    f"could not {self._doing}: only {self._position} bytes of {self._size} are there"
                )
            self._position += len(piece)
            yield piece
        if end == self._size and file.read(1):
            self._position += 1
            raise DigestMismatchError(f"could not {self._doing}: there are more than {self._size} bytes")

    def _at(self, start: int) -> BinaryIO:
        if self._file is not None and self._position > start and not self._file.seekable():
            self._file.close()
            self._file = None
        if self._file is None:
            self._file = self._open_source()
            self._position = 0
        if self._position != start and self._file.seekable():
            self._file.seek(start)
            self._position = start
        while self._position < start:
            skipped = self._file.read(min(READ_BYTES, start - self._position))
            if not skipped:
                break
            self._position += len(skipped)
        return self._file
