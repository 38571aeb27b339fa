"""The line: a repository and a ref become one image in a registry.

::

    RepoSpec -resolve-> Commit -checkout-> Tree -detect-> EnvironmentSpec -lock-> Lock -plan-> BuildPlan
             -assemble-> Image -publish-> ImageRecord

A commit that was built before with the same base and options is answered by one HEAD request (its alias tag). Another
commit whose environment and tree were built before gets its alias and record, nothing else. What only a build needs is
imported when there is one, since starting Python is most of the first answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from builder.attachments.build_log import BuildLog
from builder.attachments.provenance import BuildInputs, public_address
from builder.events import Phases, Progress, Reporter, silent
from builder.identity import alias_tag
from builder.image import Image
from builder.options import DEFAULTS, BuildOptions
from builder.record import BaseFacts, ImageRecord, LayerFacts, RecordShelf, as_cached, find_record
from builder.repository.checkout import checkout, resolve_ref
from builder.sizes import readable
from registry_sync.errors import CasabinderError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.base import Base
    from builder.choose import ChosenBase
    from builder.environment.spec import EnvironmentSpec
    from builder.facility import BaseChoice, Bases, Facility
    from builder.locking.lock import Lock
    from builder.locking.report import LockReport
    from builder.plan import BuildPlan
    from builder.repository.spec import Commit, RepoSpec

    _Found = tuple[ChosenBase, Base, bool]


@dataclass(frozen=True)
class Prepared:
    """A build that is planned in full and has changed nothing yet: what ``--dry-run`` shows.

    ``settled`` is whether a later build of the commit would take the same base: not if a better one is to be built yet.
    """

    commit: Commit
    spec: EnvironmentSpec
    choice: BaseChoice
    plan: BuildPlan
    before: str = ""
    settled: bool = True

    @cached_property
    def report(self) -> LockReport:
        """What the image gets of packages, and why."""
        from builder.locking.report import make_report

        return make_report(self.spec, self.plan.lock, self.plan.base, self.before)


def build(
    spec: RepoSpec,
    bases: Bases,
    facility: Facility,
    report: Reporter = silent,
    *,
    options: BuildOptions = DEFAULTS,
    rebuild: bool = False,
    commit: Commit | None = None,
    clock: Callable[[], float] = time.time,
) -> ImageRecord:
    """Build ``spec`` on one of ``bases``, push it, and return its record. ``rebuild`` does not take what is there.

    ``commit`` is what ``spec.ref`` was resolved to before: just that is built, wherever the ref has gone since.
    Raises :class:`CasabinderError` (of many kinds) with one sentence for the user; nothing half-made is left.
    """
    began, started = time.monotonic(), clock()
    options = replace(options, compression=facility.compression)
    log = BuildLog(report, {spec.public_url: public_address(spec.public_url)})
    phases = Phases(log)
    with phases.phase("resolve", f"resolving {spec.ref} of {spec.public_url}") as progress:
        commit = commit or resolve_ref(spec, facility.fetching)
        progress.summary = f"commit {commit.id[:12]}"
    repository = facility.repository(spec.slug)
    alias = commit_alias(commit.id, spec.subdirectory, bases, options)
    shelf = RecordShelf(facility.cache / "records")
    if not rebuild:
        record = find_record(shelf, facility.store, repository, alias, commit.id)
        if record is not None:
            return told(as_cached(record, _seconds(phases, began)), facility, repository)
    from builder.attachments.bundle import attach_all

    prepared = _prepare(commit, bases, options, facility, phases, fresh=rebuild, clock=clock)
    planned, choice = prepared.plan, prepared.choice
    there = None if rebuild else facility.store.head_manifest(repository, planned.image_id)
    if there is None:
        facility.make_room()
        image, facts = _make(prepared, facility, repository, phases, fresh=rebuild)
    else:
        image = Image(facility.store.get_manifest(repository, there.digest), b"")
        facts = _known_facts(prepared, image)
    name = f"{facility.registry}/{repository}:{planned.image_id}"
    record = _record(prepared, choice, image, name, facts, created=clock(), cached=there is not None)
    record = replace(record, seconds=_seconds(phases, began))
    inputs = BuildInputs.of(prepared.spec, prepared.plan.tree.tree_id, options.to_json())
    attach_all(
        facility,
        repository,
        image.manifest,
        planned,
        record,
        inputs,
        log=log.text,
        started=started,
        finished=clock(),
        report=prepared.report.to_json(),
        new=there is None and not rebuild,
    )
    if prepared.settled:
        facility.store.put_manifest(repository, alias, image.manifest)
        shelf.put(record)
    return replace(record, seconds=_seconds(phases, began))


def dry_run(
    spec: RepoSpec, bases: Bases, facility: Facility, report: Reporter = silent, *, options: BuildOptions = DEFAULTS
) -> Prepared:
    """Do what :func:`build` does up to the point where layers would be made, and return the plan."""
    phases = Phases(report)
    options = replace(options, compression=facility.compression)
    with phases.phase("resolve", f"resolving {spec.ref} of {spec.public_url}"):
        commit = resolve_ref(spec, facility.fetching)
    return _prepare(commit, bases, options, facility, phases, fresh=False, clock=time.time)


def commit_alias(commit: str, subdirectory: str, bases: Bases, options: BuildOptions) -> str:
    """Return the tag that answers "is this commit built, on one of these bases, with these options?"."""
    offered = [f"{offer.choice.repository}:{offer.choice.reference}" for offer in bases.offers]
    rest = {"bases": offered, "subdirectory": subdirectory, **options.to_json()}
    return alias_tag(commit, rest)


def _prepare(
    commit: Commit,
    bases: Bases,
    options: BuildOptions,
    facility: Facility,
    phases: Phases,
    *,
    fresh: bool,
    clock: Callable[[], float],
) -> Prepared:
    from builder.choose import missing_cuda
    from builder.environment.detect import detect
    from builder.locking.as_of import moment
    from builder.locking.lock import lock
    from builder.plan import plan
    from builder.sources.maker import make_maker

    with phases.phase("fetch", f"fetching commit {commit.id[:12]}") as progress:
        tree = checkout(commit, facility.cache, facility.fetching)
        spec = detect(tree)
        spec = replace(spec, as_of=options.as_of or spec.as_of)
        before = moment(spec.as_of, tree)
        progress.summary = spec.file or "no environment file: the base as it is"
        for note in spec.notes:
            progress.say(note)
        if spec.container:
            from builder.container.steps import announce

            announce(spec.container, progress)
    found = _found_base(spec, bases, facility)
    with phases.phase("lock", f"locking against {found[0].offer.name}, because {found[0].reason}") as progress:

        def locked(chosen: ChosenBase, base: Base) -> Lock:
            for note in chosen.notes:
                progress.say(note)
            maker = make_maker(facility, base, tree, progress)
            answer = lock(spec, base, facility, maker=maker, before=before, fresh=fresh, clock=clock)
            if note := missing_cuda(spec, base, answer):
                progress.say(note)
            return answer

        (chosen, base, settled), answer = _first_fit(found, spec, bases, facility, locked, progress)
        answer = answer.sized(facility.wheelhouse)
        counts = answer.report()
        progress.summary = (
            f"{counts['from_base']} from the base, {counts['added']} added, {counts['replaced']} replaced"
        )
        for note in answer.notes:
            progress.say(note)
    planned = plan(base, answer, spec, tree, options.compression)
    return Prepared(commit, spec, chosen.offer.choice, planned, before, settled)


def _found_base(spec: EnvironmentSpec, bases: Bases, facility: Facility) -> _Found:
    """Return the base to build on, and whether it is the best that is offered.

    One that is made for a package, and that this site has not built, is passed over, which is said.
    """
    from builder.choose import choose_base, without
    from builder.environment.spec import EnvironmentFileError

    best = choose_base(spec, bases)
    try:
        return best, _load(best.offer.choice, facility), True
    except MissingBaseError as missing:
        if not best.by_package:
            raise
        try:
            chosen, base, _ = _found_base(spec, without(best.offer, bases), facility)
        except EnvironmentFileError:
            raise missing from None  # no other has its Python
    name = best.offer.name
    note = (
        f"{best.reason}, for which there is the base {name}, but this site has not built it: {chosen.offer.name} is "
        f"taken, and a build after `casabinder base build {name}` takes the other"
    )
    return replace(chosen, notes=(note, *chosen.notes)), base, False


def _first_fit(
    found: _Found,
    spec: EnvironmentSpec,
    bases: Bases,
    facility: Facility,
    locked: Callable[[ChosenBase, Base], Lock],
    progress: Progress,
) -> tuple[_Found, Lock]:
    """Return what was found and the lock on it. A base that packages lead to, and that they don't go with, is given up
    for the next, which is said; if there is no other, the first base's error stands."""
    from builder.choose import without
    from builder.environment.spec import EnvironmentFileError
    from builder.locking.pylock import UnfitError

    chosen, base, _ = found
    try:
        return found, locked(chosen, base)
    except UnfitError as error:
        if not chosen.by_package:
            raise
        rest = without(chosen.offer, bases)
        try:
            other = _found_base(spec, rest, facility)
            progress.say(f"{chosen.offer.name} is not taken after all, but {other[0].offer.name}: {error}")
            return _first_fit(other, spec, rest, facility, locked, progress)
        except (UnfitError, EnvironmentFileError):
            raise error from None


class MissingBaseError(CasabinderError):
    """A base is offered and not in the registry."""


def _load(choice: BaseChoice, facility: Facility) -> Base:
    from builder.base import load_base

    store = choice.store or facility.store
    try:
        return load_base(store, choice.registry, choice.repository, choice.reference, facility.cache)
    except NotFoundError as error:
        raise MissingBaseError(
            f"the base image {choice} is not in the registry; make it with `casabinder base build`, "
            "or choose another with --base"
        ) from error


def _make(
    prepared: Prepared, facility: Facility, repository: str, phases: Phases, *, fresh: bool
) -> tuple[Image, tuple[LayerFacts, ...]]:
    from builder.assemble import make_layers, make_planned_image, push

    planned, choice, steps = prepared.plan, prepared.choice, prepared.spec.container
    if steps and steps.dockerfile:
        from builder.container.foreign_image import make_foreign_image

        with phases.phase("layers", f"building {steps.dockerfile}") as progress:
            return make_foreign_image(steps.dockerfile, planned, facility, repository, progress)
    with phases.phase("layers", f"making {len(planned.whats)} layers") as progress:
        layers = make_layers(planned, facility, facility.layer_cache, progress)
        image = make_planned_image(planned, layers)
        progress.summary = f"{readable(sum(layer.size for layer in layers))} above the base"
    with phases.phase("push", f"pushing to {facility.registry}/{repository}") as progress:
        # What steps run on is found by its digest: only the image with their layers gets the tag.
        pushed = replace(planned, image_id=image.digest) if steps else planned
        facts = push(pushed, choice, facility, repository, image, layers, progress)
        progress.summary = f"{readable(sum(fact.bytes for fact in facts if fact.source == 'uploaded'))} uploaded"
    if steps:
        from builder.container.steps import run_container_steps

        with phases.phase("layers", "running the steps that need a container") as progress:
            return run_container_steps(
                steps, planned, choice, facility, repository, image, facts, progress, fresh=fresh
            )
    return image, facts


def _record(
    prepared: Prepared,
    choice: BaseChoice,
    image: Image,
    image_name: str,
    facts: tuple[LayerFacts, ...],
    *,
    created: float,
    cached: bool,
) -> ImageRecord:
    planned, commit = prepared.plan, prepared.commit
    inventory = planned.base.inventory
    record = ImageRecord(
        image=image_name,
        digest=image.digest,
        env_id=planned.env_id,
        image_id=planned.image_id,
        repo=commit.spec.public_url,
        ref=commit.spec.ref,
        commit=commit.id,
        subdirectory=commit.spec.subdirectory,
        base=BaseFacts(inventory.name, str(choice), planned.base.digest, inventory.target.python),
        lock_sha256=planned.lock.sha256,
        reproducible=prepared.spec.container is None,
        created=datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        packages=planned.lock.report(),
        layers=facts,
        bytes={
            "total": sum(layer.size for layer in image.manifest.layers),
            "new": sum(fact.bytes for fact in facts if fact.source != "base"),
            "uploaded": sum(fact.bytes for fact in facts if fact.source == "uploaded"),
        },
        cached=cached,
    )
    steps = prepared.spec.container
    if steps and steps.dockerfile:
        from builder.container.foreign_image import foreign_record

        return foreign_record(record, steps.dockerfile, image)
    return record


def _known_facts(prepared: Prepared, image: Image) -> tuple[LayerFacts, ...]:
    from builder.assemble import cached_facts

    if prepared.spec.container is None:
        return cached_facts(prepared.plan, image)
    from builder.container.steps import known_facts

    return known_facts(prepared.spec.container, prepared.plan, image)


def told(record: ImageRecord, facility: Facility, repository: str) -> ImageRecord:
    """Return a stored record with the image's name as it is reached from here."""
    return replace(record, image=f"{facility.registry}/{repository}:{record.image_id}")


def _seconds(phases: Phases, began: float) -> dict[str, float]:
    seconds = {name: round(value, 3) for name, value in phases.seconds.items()}
    return {**seconds, "total": round(time.monotonic() - began, 3)}
