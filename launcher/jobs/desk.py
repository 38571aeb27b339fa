"""Where builds are asked for: what was asked becomes a commit, an image that is there, or a job.

::

    Asked --parse--> RepoSpec --Access--> commit, private? --registry--> ImageRecord --> a job that has ended
                                                            nothing --> JobStore.submit (one job per key)

The *key* is a hash over the image's repository in the registry, the commit, the alias tag (bases, options,
subdirectory), whether it is a rebuild, and the owner if the repository is private: what decides the image, and who may
see the log.
"""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from base_images.definition import catalogue
from builder.build import commit_alias, told
from builder.locking.as_of import OF_COMMIT
from builder.options import BuildOptions
from builder.providers.known import parse_pasted, parse_spec, providers
from builder.record import ImageRecord, RecordShelf, find_record
from builder.repository.addresses import check_lists
from builder.repository.remote import check_location
from builder.repository.spec import NotAllowedError, RepositoryError, RepoSpec, UnreachableError
from launcher.bases.history import CHANNELS
from launcher.jobs.access import Access
from launcher.jobs.model import INTERACTIVE, BuildRequest
from launcher.jobs.standing import standing
from launcher.jobs.store import Room
from launcher.refusal import RefusedError
from launcher.security.principal import Principal
from registry_sync.errors import CasabinderError, RegistryError
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from builder.facility import BaseChoice, Bases
    from builder.providers.provider import Pasted
    from builder.record import BaseFacts
    from launcher.context import Context
    from launcher.jobs.model import Asked, Job
    from launcher.jobs.standing import Standing
    from launcher.jobs.store import JobStore
    from launcher.security.vault import Vault
    from launcher.site_config import Site

_THREADS = 8
_CHANNEL_SECONDS = 5.0  # beyond the minute for which a channel's answer is remembered
_EARLIER = 50
_EVERYBODY = Principal("visitor", "")
_LONGEST = {"provider": 20, "spec": 2000, "base": 100, "as_of": 10, "subdirectory": 500}
_LONGEST_PASTED = 2000

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class _Target:
    """What a request turned out to be; ``repository`` and ``alias`` are where its image is in the registry."""

    request: BuildRequest
    repository: str
    alias: str
    private: bool
    key: str


class Desk:
    """Takes requests for builds. Its methods may be called from one event loop."""

    def __init__(
        self, context: Context, store: JobStore, vault: Vault, site: Site, clock: Callable[[], float] = time.time
    ) -> None:
        self._context = context
        self._facility = replace(context.facility, fetching=replace(context.facility.fetching, local=False))
        self._store = store
        self._site = site
        self._clock = clock
        self._access = Access(self._facility.fetching, vault)
        self._shelf = RecordShelf(self._facility.cache / "records")
        self._bases: dict[str, tuple[Bases, float]] = {}
        self._pool = ThreadPoolExecutor(_THREADS, "desk")

    async def submit(self, asked: Asked, principal: Principal, *, priority: int = INTERACTIVE) -> Job:
        """Return the job for what was asked: one that has ended if the image is there, else one queued or running.

        Raises :class:`RefusedError`: 400 for a wrong request, 403 for a repository that the site does not build, 404
        for one that the principal can't read or that has no such ref, 502 for a silent host, 429 and 503 when there is
        no room for another job.
        """
        target = await self._target(asked, principal)
        if not asked.rebuild:
            record = await self._run(self._look, target)
            if record is not None:
                return await self._run(self._add_built, target, principal, record)
        return await self._run(self._submit, target, principal, priority)

    async def rebuild(self, job: Job, principal: Principal) -> Job:
        """Return a new build of what a job was for: the same commit, wherever its ref has gone since.

        Raises as :meth:`submit` does, and 404 for a record of an archive that holds something else now.
        """
        request = replace(job.request, asked=replace(job.request.asked, rebuild=True))
        target = await self._target(request.asked, principal, commit=request.commit)
        request = replace(request, credential=target.request.credential)
        return await self._run(self._submit, replace(target, request=request), principal, INTERACTIVE)

    async def find_image(self, asked: Asked, principal: Principal) -> ImageRecord | None:
        """Return the record of the image that :meth:`submit` would find; start nothing. Raises as it does."""
        return await self._run(self._look, await self._target(asked, principal))

    async def standing(self, asked: Asked) -> Standing:
        """Return how it stands with an image, as everybody may know it; start nothing. Raises as :meth:`submit` does:
        what is not public is not there."""
        once = await self._target(replace(asked, rebuild=False), _EVERYBODY)
        again = await self._target(replace(asked, rebuild=True), _EVERYBODY)
        return await self._run(self._standing, once, again)

    async def record(self, job: Job) -> ImageRecord:
        """Return the record of what a job built.

        Raises :class:`RefusedError`: 404 when it has built nothing, 410 when the image is no longer in the registry.
        """
        return await self._run(self._record, job)

    async def offered(self) -> list[str]:
        """Return the bases that are offered now, by tag or digest; raise :class:`RefusedError` if nobody knows."""
        return [str(offer.choice) for offer in (await self._run(self._offered, "")).offers]

    def ask_again(self, repositories: Collection[str]) -> None:
        """Ask the registry again what the channels of these bases name: somebody has said that they were moved."""
        for repository in repositories:
            self._context.channels.forget(repository)
        self._bases.clear()

    def pasted(self, text: str) -> Pasted:
        """Return what a pasted text means, without asking anybody; raise :class:`RefusedError` (400) if nothing."""
        text = text.strip()
        _check_text("the address", text, _LONGEST_PASTED)
        try:
            return parse_pasted(text, self._facility.fetching.hosts)
        except RepositoryError as error:
            raise RefusedError(str(error)) from error

    def providers(self) -> list[Mapping[str, Any]]:
        """Return what a page shows of each provider: BinderHub's ``/api/repoproviders``."""
        return [provider.display_config for provider in providers(self._facility.fetching.hosts).values()]

    def close(self) -> None:
        """Take no more requests."""
        self._access.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., _Answer], *arguments: Any) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def _target(self, asked: Asked, principal: Principal, *, commit: str = "") -> _Target:
        """Return what is asked for, as it is now or as it was at a ``commit``."""
        spec = self._parsed(asked)
        spec = replace(spec, ref=commit) if commit else spec
        bases = await self._run(self._offered, asked.base)
        try:
            readable = await self._access.resolve(spec, principal)
        except RepositoryError as error:
            raise _refused(error, 404) from error
        found = readable.commit
        request = BuildRequest(asked, found.spec.url, found.spec.ref, found.id, readable.credential)
        repository = self._facility.repository(found.spec.slug)
        options = BuildOptions(asked.as_of, self._facility.compression)
        alias = commit_alias(found.id, asked.subdirectory, bases, options)
        whole = {"repository": repository, "alias": alias, "commit": found.id, "rebuild": asked.rebuild}
        whole["owner"] = principal.owner if readable.private else ""
        key = sha256_digest(canonical_json(whole)).partition(":")[2]
        return _Target(request, repository, alias, readable.private, key)

    def _parsed(self, asked: Asked) -> RepoSpec:
        """Check all that needs no network."""
        for name, longest in _LONGEST.items():
            _check_text(name, getattr(asked, name), longest)
        _check_as_of(asked.as_of)
        fetching = self._facility.fetching
        try:
            spec = replace(parse_spec(asked.provider, asked.spec, fetching.hosts), subdirectory=asked.subdirectory)
            _check_text("the repository's address", spec.url, _LONGEST["spec"])
            _check_text("the ref", spec.ref, _LONGEST["spec"])
            if spec.archive:
                check_lists(spec.url, fetching)
                return spec
            check_location(spec.location, fetching, local=False)
        except RepositoryError as error:
            raise _refused(error, 400) from error
        # Tokens are kept by host in lower case.
        parts = urlsplit(spec.url)
        return replace(spec, url=parts._replace(netloc=parts.netloc.lower()).geturl())

    def _offered(self, name: str) -> Bases:
        """Return the bases that may be taken. Only those of the site's catalogue may be asked for by name.

        What a channel names changes while the service runs; all else is looked at once.
        """
        kept, until = self._bases.get(name, (None, 0.0))
        if kept is not None and self._clock() < until:
            return kept
        known = sorted(catalogue(self._context.catalogues))
        if name and name not in CHANNELS and name.partition(":")[0] not in known:
            raise RefusedError(f"there is no base {name!r}; this site has {', '.join(known)}")
        try:
            bases = self._context.bases(name or None)
        except RegistryError as error:
            raise _silent_registry(error) from error
        except CasabinderError as error:  # there is no such release, or none yet
            raise RefusedError(str(error), 400 if name else 503) from error
        moves = self._site.channel is not None or name in CHANNELS or ":" in name
        self._bases[name] = (bases, self._clock() + _CHANNEL_SECONDS if moves else math.inf)
        return bases

    def _look(self, target: _Target) -> ImageRecord | None:
        """Return the record of the target's image if the registry has it."""
        facility, commit = self._facility, target.request.commit
        try:
            record = find_record(self._shelf, facility.store, target.repository, target.alias, commit)
        except CasabinderError as error:
            raise _silent_registry(error) from error
        # The alias and the shelf know 12 digits of a commit.
        return told(record, facility, target.repository) if record is not None and record.commit == commit else None

    def _standing(self, target: _Target, again: _Target) -> Standing:
        jobs = [job for job in (self._store.latest(target.key), self._store.latest(again.key)) if job]
        latest = max(jobs, key=lambda job: job.created).state if jobs else None
        if any(not job.ended for job in jobs):
            return "building"
        record = self._look(target)
        asked = target.request.asked
        earlier = self._earlier(target) if record is None else None
        built_on = record.base.reference if record else None
        present = {
            str(offer.choice): self._digest(offer.choice) if str(offer.choice) == built_on else ""
            for offer in self._offered(asked.base).offers
        }
        return standing(latest, record.base if record else None, earlier, present)

    def _earlier(self, target: _Target) -> BaseFacts | None:
        """Return the base of the newest public image of the same commit and options that was built here."""
        wanted = replace(target.request.asked, provider="", spec="", rebuild=False)
        for job in self._store.find(repo=target.request.repo, state="built", viewer="", limit=_EARLIER):
            same = replace(job.request.asked, provider="", spec="", rebuild=False) == wanted
            if same and job.request.commit == target.request.commit and (document := self._store.record(job.id)):
                return ImageRecord.from_json(document).base
        return None

    def _digest(self, choice: BaseChoice) -> str:
        """Return the digest of a base as it is now, or ``""``."""
        try:
            there = (choice.store or self._facility.store).head_manifest(choice.repository, choice.reference)
        except CasabinderError as error:
            raise _silent_registry(error) from error
        return there.digest if there else ""

    def _add_built(self, target: _Target, principal: Principal, record: ImageRecord) -> Job:
        return self._store.add_built(
            target.key,
            target.request,
            principal.owner,
            record.to_json(),
            private=target.private,
            now=self._clock(),
        )

    def _submit(self, target: _Target, principal: Principal, priority: int) -> Job:
        builds = self._site.service.builds
        # What nobody waits for leaves half of the queue to those who wait.
        queue = builds.queue if priority <= INTERACTIVE else max(1, builds.queue // 2)
        trusted = principal.admin or principal.kind == "service"
        job, _ = self._store.submit(
            target.key,
            target.request,
            principal.owner,
            private=target.private,
            priority=priority,
            room=Room(queue, 0 if trusted else builds.per_user),
            now=self._clock(),
        )
        if job.cancelling:
            raise RefusedError("this build is just being cancelled; ask again in a few seconds", 503, retry_after=5)
        return job

    def _record(self, job: Job) -> ImageRecord:
        document = self._store.record(job.id)
        if document is None:
            raise RefusedError("this build has made no image", 404)
        record = ImageRecord.from_json(document)
        repository = self._facility.repository(RepoSpec(job.request.repo).slug)
        try:
            there = self._facility.store.head_manifest(repository, record.digest)
        except CasabinderError as error:
            raise _silent_registry(error) from error
        if there is None:
            raise RefusedError("the image is no longer in the registry; build it again", 410)
        return told(record, self._facility, repository)


def _check_text(what: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise RefusedError(f"{what} is longer than {longest} characters")
    if not text.isprintable():
        raise RefusedError(f"{what} holds characters that can't be printed")


def _check_as_of(text: str) -> None:
    try:
        if text not in ("", OF_COMMIT) and date.fromisoformat(text).isoformat() != text:
            raise ValueError(text)
    except ValueError as error:
        raise RefusedError(f"as_of: {text!r} is neither a date (YYYY-MM-DD) nor `{OF_COMMIT}`") from error


def _refused(error: RepositoryError, status: int) -> RefusedError:
    if isinstance(error, NotAllowedError):
        return RefusedError(str(error), 403)
    if isinstance(error, UnreachableError):
        return RefusedError(str(error), 502, retry_after=30)
    return RefusedError(str(error), status)


def _silent_registry(error: CasabinderError) -> RefusedError:
    return RefusedError(f"the image registry does not answer as it should: {error}", 503, retry_after=30)
