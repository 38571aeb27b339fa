"""A registry as a :class:`~registry_sync.store.Store`: the distribution specification's endpoints, one method each.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md (1.1), and the
catalogue that most registries have beside them. Not for administering a registry: no garbage collection.
"""

from __future__ import annotations

import json
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import httpx

from registry_sync.credentials import Credentials, docker_credentials
from registry_sync.download import download
from registry_sync.errors import DigestMismatchError, NotFoundError, RegistryAuthError, RegistryError
from registry_sync.faults import RegistryFaultError
from registry_sync.machine_lock import machine_lock
from registry_sync.manifest import MANIFEST_TYPES, Descriptor, Manifest
from registry_sync.reference import is_digest, validate_digest, validate_repository, validate_tag
from registry_sync.transport import Answer, RegistryTransport, Traffic
from registry_sync.upload import (
    CHUNK_BYTES,
    WHOLE_BYTES_MAX,
    GrowingUpload,
    cancel_upload,
    session_location,
    upload_blob,
)
from registry_sync.verify import digest_of, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TIMEOUT_SECONDS = 60.0
PAGES_MAX = 10_000
FALLBACK_TRIES = 8
PUT_WORKERS = 6

# A registry that keeps its blobs as files rewrites the note that it has one when another client brings the same blob,
# and whoever reads it at that moment is told that there is none (seen with 20 builders at once, docker-registry 2.8).
_BLOB_PAUSES = (0.1, 0.3, 1.0, 3.0)
_CATALOGUE = ("registry:catalog:*",)
_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_log = logging.getLogger(__name__)


class RegistryClient:
    """One registry over HTTP. Thread-safe; close it, or use it as a context manager.

    ``registry`` is ``host[:port]``. ``credentials`` are the account's, or are looked up by host when the registry asks
    (by default where ``docker login`` puts them); ``None`` is anonymous. ``insecure``, ``ca_bundle`` and ``timeout``
    (seconds) are as in :class:`~registry_sync.transport.RegistryTransport`. ``sleep`` and ``transport`` are for tests.

    Example usage/behaviour::

        with RegistryClient("registry.example") as registry:
            manifest = registry.get_manifest("team/analysis", "v1")
            with registry.open_blob("team/analysis", manifest.layers[0].digest) as chunks:
                for chunk in chunks: ...
    """

    def __init__(
        self,
        registry: str,
        *,
        insecure: bool | None = None,
        credentials: Credentials | Callable[[str], Credentials | None] | None = docker_credentials,
        ca_bundle: Path | None = None,
        timeout: float = TIMEOUT_SECONDS,
        chunk_bytes: int = CHUNK_BYTES,
        whole_bytes_max: int = WHOLE_BYTES_MAX,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.registry = registry
        self._chunk_bytes = chunk_bytes
        self._whole_bytes_max = whole_bytes_max
        self._sleep = sleep
        self._transport = RegistryTransport(
            registry,
            insecure=insecure,
            credentials=credentials,
            ca_bundle=ca_bundle,
            timeout=timeout,
            sleep=sleep,
            transport=transport,
        )

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    @property
    def traffic(self) -> Traffic:
        """What was asked of the registry so far."""
        return self._transport.traffic

    def ping(self) -> None:
        """Return if the registry answers and lets us in; raise :class:`RegistryError` otherwise."""
        try:
            self._transport.request("GET", "/v2/", doing="log in", scopes=(), expect=(200,))
        except NotFoundError as error:
            raise RegistryError(f"{self.registry} answers, but is not a registry (there is no /v2/)") from error

    # Manifests

    def head_manifest(self, repository: str, reference: str) -> Descriptor | None:
        """Return what ``reference`` points at, or ``None`` if there is no such manifest."""
        path, doing = _manifest_path(repository, reference), f"look up {repository} {reference}"
        answer = self._transport.request(
            "HEAD", path, doing=doing, scopes=_pull(repository), expect=(200, 404), headers=_ACCEPT
        )
        if answer.status == 404:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        size = answer.headers.get("content-length", "")
        if not digest or not size.isdecimal():  # both are only a SHOULD for HEAD
            return self.get_manifest(repository, reference).descriptor()
        if is_digest(reference) and digest != reference:
            raise DigestMismatchError(f"{self.registry} answered for {digest} when asked for {repository} {reference}")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Descriptor(media_type=media_type, digest=validate_digest(digest), size=int(size))

    def get_manifest(self, repository: str, reference: str) -> Manifest:
        """Return the manifest; its digest is checked when ``reference`` is one."""
        path, doing = _manifest_path(repository, reference), f"read the manifest {repository} {reference}"
        answer = self._transport.request(
            "GET", path, doing=doing, scopes=_pull(repository), expect=(200,), headers=_ACCEPT
        )
        announced = reference if is_digest(reference) else answer.headers.get("docker-content-digest")
        if announced:
            found = digest_of(answer.body, like=announced)
            if found != announced:
                raise DigestMismatchError(f"{self.registry} sent a manifest with digest {found} for {announced}")
        return Manifest.parse(answer.body, answer.headers.get("content-type", "").partition(";")[0].strip())

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """Store the manifest under a tag or its digest; a manifest with a subject becomes its referrer.

        A registry that does not answer with ``OCI-Subject`` has no referrers API: there the index under the tag
        ``sha256-<hex>`` is kept by the client ("Referrers Tag Schema"). Clients that change it at the same time can
        lose each other's entries, so it is read back and written again if need be.
        """
        self._list_referrers(repository, [(manifest, self._put(repository, reference, manifest))])

    def put_referrers(self, repository: str, manifests: Sequence[tuple[str, Manifest]]) -> None:
        """Store manifests, each under its tag or digest, several at a time; an index of referrers is written once."""
        with ThreadPoolExecutor(min(PUT_WORKERS, len(manifests) or 1)) as pool:
            answers = list(pool.map(lambda pair: self._put(repository, *pair), manifests))
        self._list_referrers(
            repository, [(manifest, answer) for (_, manifest), answer in zip(manifests, answers, strict=True)]
        )

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Delete a tag, or a manifest with all its tags; :class:`NotFoundError` if there is none."""
        subject = None
        if is_digest(reference):
            subject = self.get_manifest(repository, reference).subject
        self._delete(repository, _manifest_path(repository, reference), f"delete {repository} {reference}")
        if subject is not None:
            self._change_fallback(repository, subject.digest, remove=reference)

    # Blobs

    def head_blob(self, repository: str, digest: str) -> int | None:
        """Return the blob's size in bytes, or ``None`` if this repository does not have it."""
        path, doing = _blob_path(repository, digest), f"look up {digest} in {repository}"
        answer = self._transport.request("HEAD", path, doing=doing, scopes=_pull(repository), expect=(200, 404))
        if answer.status == 404:
            return None
        size = answer.headers.get("content-length", "")
        if not size.isdecimal():
            raise RegistryError(f"{self.registry} does not say how large {digest} in {repository} is")
        return int(size)

    @contextmanager
    def open_blob(self, repository: str, digest: str) -> Iterator[Iterator[bytes]]:
        """Stream the blob; the last chunk is followed by a check of its digest and size.

        Where a connection breaks, the rest is asked for on a new one.
        """
        path = _blob_path(repository, digest)
        with download(self._transport, path, f"read {digest} from {repository}", _pull(repository)) as (chunks, size):
            yield verified(chunks, digest, size, where=self.registry)

    def read_blob(self, repository: str, digest: str, limit: int = 64 * 2**20) -> bytes:
        """Return a small blob whole; more than ``limit`` bytes are refused."""
        data = bytearray()
        with self.open_blob(repository, digest) as chunks:
            for chunk in chunks:
                data += chunk
                if len(data) > limit:
                    raise RegistryError(f"{digest} in {self.registry}/{repository} has more than {limit} bytes")
        return bytes(data)

    def put_blob(
        self,
        repository: str,
        descriptor: Descriptor,
        source: Callable[[], BinaryIO],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Store ``descriptor.size`` bytes read from ``source()``; see :func:`~registry_sync.upload.upload_blob`."""
        upload_blob(
            self._transport,
            validate_repository(repository),
            descriptor,
            source,
            progress,
            chunk_bytes=self._chunk_bytes,
            whole_bytes_max=self._whole_bytes_max,
        )

    def upload_growing(self, repository: str, source: BinaryIO) -> GrowingUpload:
        """Return the upload of a file that is still being written; nothing is sent before there is something."""
        return GrowingUpload(self._transport, validate_repository(repository), source)

    def mount_blob(self, repository: str, digest: str, source_repository: str) -> bool:
        """Make another repository's blob part of this one without moving bytes; ``False`` if it can't be.

        Takes one token for both repositories: without ``pull`` on the source a registry silently opens an upload.
        """
        query = f"mount={quote(validate_digest(digest))}&from={quote(validate_repository(source_repository), safe='')}"
        path = f"/v2/{validate_repository(repository)}/blobs/uploads/?{query}"
        doing = f"mount {digest} from {source_repository} in {repository}"
        scopes = (*_pull(source_repository), *_push(repository))
        try:
            answer = self._transport.request("POST", path, doing=doing, scopes=scopes, expect=(201, 202))
        except (NotFoundError, RegistryAuthError) as error:
            _log.debug("not mounted: %s", error)
            return False
        except RegistryFaultError as fault:
            if fault.transient or fault.status is None or not 400 <= fault.status < 500:
                raise
            _log.debug("not mounted: %s", fault)
            return False
        if answer.status == 202 and "location" in answer.headers:
            cancel_upload(self._transport, repository, session_location(answer))
        return answer.status == 201

    def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a blob from a repository; :class:`NotFoundError` if it is not there."""
        self._delete(repository, _blob_path(repository, digest), f"delete {digest} from {repository}")

    # Listings

    def tags(self, repository: str) -> list[str]:
        """Return all tags of a repository, in lexical order; an unknown repository has none."""
        path, doing = f"/v2/{validate_repository(repository)}/tags/list?n=1000", f"list the tags of {repository}"
        found: set[str] = set()
        for answer in self._pages(path, doing, _pull(repository), expect=(200, 404)):
            if answer.status == 404:
                break
            tags = _document(answer, doing).get("tags") or []
            found.update(str(tag) for tag in tags)
        return sorted(found)

    def repositories(self) -> list[str]:
        """Return the names of all repositories that the registry lists for us, in lexical order.

        The catalogue is no part of the distribution specification: registries shared by many have none, or keep it for
        their administrators. :class:`RegistryError` says so.
        """
        doing = "list its repositories"
        found: set[str] = set()
        try:
            for answer in self._pages("/v2/_catalog?n=1000", doing, _CATALOGUE, expect=(200,)):
                found.update(str(name) for name in _document(answer, doing).get("repositories") or [])
        except (NotFoundError, RegistryAuthError) as error:
            raise RegistryError(f"{self.registry} does not list its repositories; name them ({error})") from error
        return sorted(found)

    def referrers(self, repository: str, digest: str, artifact_type: str | None = None) -> list[Descriptor]:
        """Return the descriptors of the manifests attached to ``digest``, of one artifact type or of all."""
        path = f"/v2/{validate_repository(repository)}/referrers/{validate_digest(digest)}"
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        doing = f"list what refers to {repository} {digest}"
        found: list[Descriptor] = []
        for answer in self._pages(path + query, doing, _pull(repository), expect=(200, 404)):
            if answer.status == 404:
                found = list(self._fallback(repository, digest))
                break
            found += (Descriptor.from_json(entry) for entry in _document(answer, doing).get("manifests") or ())
        # Filtering again what OCI-Filters-Applied says is filtered costs nothing and trusts nobody.
        return [entry for entry in found if artifact_type is None or entry.artifact_type == artifact_type]

    # Parts

    def _put(self, repository: str, reference: str, manifest: Manifest) -> Answer:
        if is_digest(reference) and digest_of(manifest.raw, like=reference) != reference:
            raise DigestMismatchError(f"a manifest with digest {manifest.digest} cannot be stored as {reference}")
        answer = self._send_manifest(repository, reference, manifest)
        stored = answer.headers.get("docker-content-digest")
        if stored and stored.startswith("sha256:") and stored != manifest.digest:
            raise DigestMismatchError(f"{self.registry} stored {stored} for the manifest {manifest.digest}")
        return answer

    def _send_manifest(self, repository: str, reference: str, manifest: Manifest) -> Answer:
        send = partial(
            self._transport.request,
            "PUT",
            _manifest_path(repository, reference),
            doing=f"store the manifest {repository} {reference}",
            scopes=_push(repository),
            expect=(201, 202),
            headers={"Content-Type": manifest.media_type},
            body=manifest.raw,
        )
        for pause in _BLOB_PAUSES:
            try:
                return send()
            except RegistryFaultError as fault:
                if "MANIFEST_BLOB_UNKNOWN" not in fault.codes:
                    raise
            self._sleep(pause)
        return send()

    def _list_referrers(self, repository: str, stored: Sequence[tuple[Manifest, Answer]]) -> None:
        """List those of the stored manifests as referrers that the registry did not take for ones itself."""
        unlisted: dict[str, list[Descriptor]] = {}
        for manifest, answer in stored:
            if manifest.subject is not None and "oci-subject" not in answer.headers:
                entry = replace(
                    manifest.descriptor(), annotations=manifest.annotations, artifact_type=manifest.artifact_type
                )
                unlisted.setdefault(manifest.subject.digest, []).append(entry)
        for subject, entries in unlisted.items():
            self._change_fallback(repository, subject, add=entries)

    def _delete(self, repository: str, path: str, doing: str) -> None:
        scopes = (f"repository:{repository}:pull,push,delete",)
        try:
            self._transport.request("DELETE", path, doing=doing, scopes=scopes, expect=(200, 202, 204))
        except RegistryFaultError as fault:
            if fault.status in (400, 405):
                raise RegistryError(f"{fault}: deletion is disabled there, or not supported for this") from fault
            raise

    def _pages(self, path: str, doing: str, scopes: tuple[str], expect: tuple[int, ...]) -> Iterator[Answer]:
        """Yield the answers of a listing, following ``Link: <...>; rel="next"``."""
        target: str | httpx.URL = path
        seen: set[str] = set()
        for _ in range(PAGES_MAX):
            answer = self._transport.request("GET", target, doing=doing, scopes=scopes, expect=expect)
            yield answer
            following = _next_page(answer)
            if following is None:
                return
            if str(following) in seen:
                break
            seen.add(str(following))
            target = following
        raise RegistryError(f"{self.registry} could not {doing}: its pages never end")

    def _fallback(self, repository: str, digest: str) -> tuple[Descriptor, ...]:
        try:
            return self.get_manifest(repository, fallback_tag(digest)).manifests
        except NotFoundError:
            return ()

    def _change_fallback(
        self, repository: str, subject: str, *, add: Sequence[Descriptor] = (), remove: str | None = None
    ) -> None:
        """Bring entries into the index, or one out of it, and return when two reads in a row have seen it so.

        Builders of one machine take turns. One of another machine may read the index before we write it and write it
        after, which takes our entries out again; that takes one round trip, so two reads mostly see it, and we
        write again.
        """
        written = False
        with machine_lock(f"{self.registry}/{repository}@{subject}"):
            for attempt in range(FALLBACK_TRIES):
                for _ in range(2 if written else 1):
                    entries = self._fallback(repository, subject)
                    there = {entry.digest for entry in entries}
                    missing = [entry for entry in add if entry.digest not in there]
                    if missing or remove in there:
                        break
                else:
                    return
                if attempt:
                    self._sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - so that two do not go in step
                    entries = self._fallback(repository, subject)
                    there = {entry.digest for entry in entries}
                wanted = [entry for entry in entries if entry.digest != remove]
                wanted += [entry for entry in add if entry.digest not in there]
                self._put(repository, fallback_tag(subject), Manifest.index(wanted))
                written = True
        _log.warning("the referrers of %s in %s/%s are changed by others too", subject, self.registry, repository)


def fallback_tag(digest: str) -> str:
    """Return the tag of the index that lists a manifest's referrers ("Referrers Tag Schema")."""
    algorithm, _, encoded = validate_digest(digest).partition(":")
    return f"{algorithm}-{encoded[:64]}"


def _pull(repository: str) -> tuple[str]:
    return (f"repository:{repository}:pull",)


def _push(repository: str) -> tuple[str]:
    return (f"repository:{repository}:pull,push",)


def _manifest_path(repository: str, reference: str) -> str:
    checked = validate_digest(reference) if is_digest(reference) else validate_tag(reference)
    return f"/v2/{validate_repository(repository)}/manifests/{checked}"


def _blob_path(repository: str, digest: str) -> str:
    return f"/v2/{validate_repository(repository)}/blobs/{validate_digest(digest)}"


def _document(answer: Answer, doing: str) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except ValueError as error:
        raise RegistryError(f"could not {doing}: {answer.url.host} answered with something that is not JSON") from error
    if not isinstance(document, dict):
        raise RegistryError(f"could not {doing}: {answer.url.host} answered with something that is not a JSON object")
    return document


def _next_page(answer: Answer) -> httpx.URL | None:
    for link in httpx.Response(200, headers=answer.headers).links.values():
        if link.get("rel") == "next":
            return answer.url.join(link["url"])
    return None
