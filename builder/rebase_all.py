"""Moves every image in use onto another image of its base, without building any: what a facility does after a patch.

In use is what a build would be answered with: the images that commits' aliases (``git-...``) point at, in every
repository below the facility's prefix::

    tags of a repository         image        on                     becomes of it
    git-1f..-a0, git-2e..-a0     sha256:11..  an old coffea-py313    moved, with both commits
    git-2e..-b7                  sha256:22..  the new coffea-py313   already
    git-9c..-c1                  sha256:33..  another base           left

A repository's images go one after the other, the newest first; so an old image whose commits the new base has by then
is *superseded* and costs nothing. Repositories go several at a time. An image is moved whole or not at all, its tags
last, so a run that was interrupted is simply run again.
"""

from __future__ import annotations

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from builder.assemble import BASE_DIGEST
from builder.attachments.location import Location
from builder.base_change import RebaseRefusedError
from builder.publish import LostBlobError
from builder.rebase import OldBases, carry_out, plan_move, read_builds
from registry_sync.errors import CasabinderError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from builder.facility import Facility
    from builder.rebase import Builds, NewBase

State = Literal["moved", "already", "superseded", "rebuild", "older", "left", "failed"]
AT_ONCE = 4

_ALIAS = re.compile(r"git-[0-9a-f]{12}-[0-9a-f]{8}")
_NOT_IMAGES = ("layers", "wheels", "bases/*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one image in use.

    ``state`` is ``moved`` (``image`` and ``digest`` name the new one, ``uploaded`` counts bytes of layers), ``already``
    (it is on the new base), ``superseded`` (its commits have an image there), ``rebuild`` (``reason`` says why),
    ``older`` (than was asked for), ``left`` (it is on another base) or ``failed`` (``reason`` is the fault).
    """

    repository: str
    before: str
    state: State
    reason: str = ""
    repo: str = ""
    commit: str = ""
    image: str = ""
    digest: str = ""
    uploaded: int = 0


@dataclass(frozen=True)
class Wishes:
    """Which images: in ``repositories`` (whole names; none: what the registry lists), of those whose name below the
    prefix matches ``pattern``, with a build not before ``since`` (a UTC time as in records, or the beginning of one).
    With ``dry_run`` nothing is changed."""

    repositories: tuple[str, ...] = ()
    pattern: str = "*"
    since: str = ""
    dry_run: bool = False


@dataclass
class _Used:
    """The images in use of one repository: digests by alias, the digest of each one's base, and what was not readable.

    ``settled`` are aliases that an image of this run was for, whatever became of it; an older one does not get them.
    """

    repository: str
    aliases: dict[str, str] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    faults: list[Outcome] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)

    def note(self, digest: str, base: str, aliases: Iterable[str]) -> None:
        """Note an image, its base and the aliases that point at it."""
        self.bases[digest] = base
        self.aliases |= dict.fromkeys(aliases, digest)

    def base_of(self, alias: str) -> str:
        """Return the digest of the base of the image that an alias points at, ``""`` if there is none."""
        return self.bases.get(self.aliases.get(alias, ""), "")


def rebase_all(
    targets: Sequence[NewBase],
    facility: Facility,
    wishes: Wishes,
    *,
    at_once: int = AT_ONCE,
    say: Callable[[Outcome, int, int], None] = lambda *_: None,
) -> list[Outcome]:
    """Move what is in use, each image onto that of ``targets`` with its base's name; return what became of every one.

    ``say`` is told of each image when it is done, with its number and how many there are. Faults of one image are its
    outcome; raises :class:`CasabinderError` when the images can't be listed. The answer is sorted by repository.
    """
    names = wishes.repositories or below_prefix(facility.store.repositories(), facility.prefix)
    wanted = [name for name in names if fnmatchcase(_short(name, facility.prefix), wishes.pattern)]
    mover, lock, outcomes = _Mover(targets, facility, wishes), threading.Lock(), list[Outcome]()
    with ThreadPoolExecutor(at_once) as pool:
        used = list(pool.map(mover.images_in_use, wanted))
        total = sum(len(one.bases) + len(one.faults) for one in used)

        def one(images: _Used) -> None:
            for outcome in mover.move_images(images):
                with lock:
                    outcomes.append(outcome)
                    say(outcome, len(outcomes), total)

        running = [pool.submit(one, images) for images in used]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(outcomes, key=lambda outcome: (outcome.repository, outcome.before))


def below_prefix(names: Sequence[str], prefix: str) -> list[str]:
    """Return those of a registry's repositories that hold images of the facility: neither bases nor shared parts."""
    inside = [name for name in names if not prefix or name.startswith(f"{prefix}/")]
    return [name for name in inside if not any(fnmatchcase(_short(name, prefix), pattern) for pattern in _NOT_IMAGES)]


def _short(name: str, prefix: str) -> str:
    return name.removeprefix(f"{prefix}/") if prefix else name


class _Mover:
    """What one run moves images with."""

    def __init__(self, targets: Sequence[NewBase], facility: Facility, wishes: Wishes) -> None:
        self._targets = {target.base.inventory.name: target for target in targets}
        self._new = {target.base.digest for target in targets}
        self._facility = facility
        self._wishes = wishes
        self._old_bases = OldBases(facility)

    def images_in_use(self, repository: str) -> _Used:
        """Return what commits' aliases point at in a repository."""
        used = _Used(repository)
        try:
            aliases = [tag for tag in self._facility.store.tags(repository) if _ALIAS.fullmatch(tag)]
        except CasabinderError as error:
            used.faults.append(_fault(repository, "", error))
            return used
        for alias in aliases:
            self._note(alias, used)
        return used

    def _note(self, alias: str, used: _Used) -> None:
        """Note the image that an alias points at; one that has gone since the listing is not in use any more."""
        try:
            manifest = self._facility.store.get_manifest(used.repository, alias)
        except NotFoundError:
            return
        except CasabinderError as error:
            used.faults.append(_fault(used.repository, "", error))
        else:
            used.note(manifest.digest, manifest.annotations.get(BASE_DIGEST, ""), [alias])

    def move_images(self, used: _Used) -> Iterator[Outcome]:
        """Move the images of one repository, the newest first, and yield what became of each."""
        yield from used.faults
        behind: list[tuple[Location, Builds]] = []
        for digest, base in used.bases.items():
            if base in self._new:
                yield Outcome(used.repository, digest, "already")
            elif not base:
                yield Outcome(used.repository, digest, "left", "it has no base: it was made by its own Dockerfile")
            else:
                try:
                    behind.append(self._read(used.repository, digest))
                except CasabinderError as error:
                    yield _fault(used.repository, digest, error)
        behind.sort(key=lambda pair: pair[1].newest.created, reverse=True)
        for location, builds in behind:
            outcome = self._move(location, builds, used)
            yield replace(outcome, repo=builds.newest.repo, commit=builds.newest.commit)

    def _read(self, repository: str, digest: str) -> tuple[Location, Builds]:
        store = self._facility.store
        location = Location(store, self._facility.registry, repository, store.get_manifest(repository, digest))
        return location, read_builds(location)

    def _move(self, location: Location, builds: Builds, used: _Used) -> Outcome:
        repository, digest, record = location.repository, location.digest, builds.newest
        target = self._targets.get(record.base.name)
        if target is None:
            return Outcome(repository, digest, "left", f"it is on the base {record.base.name}")
        if record.created < self._wishes.since:
            return Outcome(repository, digest, "older", f"it was built on {record.created}")
        by_build = [target.aliases(*build) for build in builds.all]
        missing = [alias for aliases in by_build for alias in aliases if used.base_of(alias) != target.base.digest]
        missing = [alias for alias in missing if alias not in used.settled]
        if not missing:
            return Outcome(repository, digest, "superseded")
        used.settled.update(missing)
        try:
            move = plan_move(location, builds, target, self._old_bases, self._facility)
            if self._wishes.dry_run:
                return Outcome(repository, digest, "moved", digest=move.result.digest)
            made = carry_out(move, self._still(missing, used), self._facility)
        except CasabinderError as error:
            if all(used.base_of(aliases[-1]) == target.base.digest for aliases in by_build):
                return Outcome(repository, digest, "superseded")  # what a click gets was built anew
            return _fault(repository, digest, error)
        uploaded = made.bytes["uploaded"]
        return Outcome(repository, digest, "moved", image=made.image, digest=made.digest, uploaded=uploaded)

    def _still(self, aliases: Iterable[str], used: _Used) -> list[str]:
        """Return the aliases that are as they were when the run began: others were built in the meantime."""
        kept = []
        for alias in aliases:
            there = self._facility.store.head_manifest(used.repository, alias)
            if (there.digest if there else "") == used.aliases.get(alias, ""):
                kept.append(alias)
        return kept


def _fault(repository: str, digest: str, error: CasabinderError) -> Outcome:
    """Return the outcome of an error: what a build would put right, or else a failure."""
    if isinstance(error, RebaseRefusedError | LostBlobError):
        return Outcome(repository, digest, "rebuild", str(error))
    _log.info("%s@%s could not be moved", repository, digest, exc_info=error)
    return Outcome(repository, digest, "failed", str(error))
