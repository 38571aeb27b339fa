"""The line of ``casabinder ci``: what is checked out is built, pushed, tested and tagged, and compared with before.

::

    checkout + surroundings -> Commit -> ImageRecord (in the registry, or in a layout) -> smoke test -> tags -> Outcome

The image has the name and the alias that a build of the public address gets, so that a click finds it. Tags that people
ask for are set last: they never name an image whose smoke test has failed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from base_images.definition import catalogue
from builder.attachments.inspection import inspect
from builder.attachments.location import Location
from builder.build import build, commit_alias
from builder.container.engine import EngineError
from builder.facility import Bases
from builder.options import BuildOptions
from builder.repository.adopt import adopt, checked_out, history, origin
from builder.repository.checkout import resolve_ref
from builder.repository.remote import check_location
from builder.repository.spec import Commit, RepoSpec, UnreachableError
from launcher.ci.change import MOST_COMMITS, change_since
from launcher.ci.link import NoLinkError, launch_link
from launcher.ci.outcome import Outcome
from launcher.ci.smoke import SmokeReport
from launcher.ci.surroundings import public_address, with_origin
from registry_sync.credentials import docker_credentials
from registry_sync.errors import CasabinderError, InvalidReferenceError, RegistryAuthError, RegistryError
from registry_sync.layout import LayoutStore
from registry_sync.reference import validate_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.attachments.inspection import Inspection
    from builder.events import Reporter
    from builder.facility import Facility
    from builder.record import ImageRecord
    from launcher.ci.surroundings import Surroundings
    from launcher.context import Context

_OUR_TAGS = re.compile(r"[0-9a-f]{16}|git-.*|sha256-.*")


@dataclass(frozen=True)
class CiOptions:
    """What a run is asked for. ``url`` is the repository's public address, stated instead of read.

    ``push`` is ``never``, ``must``, or ``may``: a build without credentials, where the registry wants some, is left in
    ``layout``. ``smoke_test`` is ``auto`` (where an engine is), ``require`` or ``off``.
    """

    repo: str = "."
    ref: str = "HEAD"
    url: str = ""
    subdirectory: str = ""
    base: str | None = None
    as_of: str = ""
    rebuild: bool = False
    git_token_file: Path | None = None
    tags: tuple[str, ...] = ()
    push: Literal["may", "must", "never"] = "may"
    layout: Path | None = None
    smoke_test: Literal["auto", "require", "off"] = "auto"
    service: str = ""


@dataclass(frozen=True)
class _Built:
    """An image, the facility in whose store it is, and why that is not the registry."""

    record: ImageRecord
    facility: Facility
    unpushed: str = ""

    @property
    def repository(self) -> str:
        """The image's repository in the store."""
        return self.record.image.removeprefix(f"{self.facility.registry}/").rpartition(":")[0]


def run_ci(
    context: Context, options: CiOptions, surroundings: Surroundings, report: Reporter, say: Callable[[str], None]
) -> Outcome:
    """Build, push, test and tag; return what came of it, errors of repository, site and registry included.

    ``say`` is told the lines that the smoke test writes.
    """
    checkout = Path(options.repo) if Path(options.repo).is_dir() else None
    outcome = Outcome(surroundings, options.url or surroundings.url or options.repo)
    try:
        for tag in options.tags:
            check_tag(tag)
        spec = _spec(context, options, checkout, surroundings)
        context = context.with_token(options.git_token_file, spec)
        outcome = replace(outcome, url=spec.public_url)
        commit = _commit(context, spec, checkout, options.ref)
        outcome = replace(outcome, commit=commit.id)
        built = _build(context, options, commit, surroundings, report)
        outcome = replace(outcome, record=built.record, unpushed=built.unpushed)
        found = _inspect(built)
        outcome = _linked(replace(outcome, contents=found.contents), context, options, commit)
        outcome = _compared(outcome, context, options, commit, checkout, found)
        outcome = replace(outcome, smoke=_tested(context, options, commit, built, found, say))
        if outcome.smoke.state != "failed" and not built.unpushed:
            outcome = replace(outcome, tags=_tagged(built, options.tags))
    except CasabinderError as error:
        return replace(outcome, error=str(error), fault=isinstance(error, (RegistryError, UnreachableError)))
    return outcome


def withheld(options: CiOptions, surroundings: Surroundings) -> str:
    """Return why the run gets no credentials and pushes nothing; ``""`` if it does."""
    if surroundings.foreign:
        return "this is a pull request from a fork, whose code never gets the registry's credentials"
    if options.push == "never":
        return "--no-push was given"
    if surroundings.doubtful and options.push != "must":
        return "a comment at a pull request began this, and nothing says whose code it is; --push says that it is yours"
    return ""


def check_tag(tag: str) -> None:
    """Raise :class:`InvalidReferenceError` for what is no tag, or has the form of the tags that never move."""
    validate_tag(tag)
    if _OUR_TAGS.fullmatch(tag):
        raise InvalidReferenceError(
            f"--tag {tag}: tags of 16 hex digits, and those that begin with git- or sha256-, are casabinder's own and "
            "never move; choose another name"
        )


def _spec(context: Context, options: CiOptions, checkout: Path | None, surroundings: Surroundings) -> RepoSpec:
    if checkout is None:
        return context.repository(options.repo, options.ref, options.subdirectory)
    url = public_address(options.url) or options.url
    if not url:
        url = with_origin(surroundings, origin(checkout)).url
    commit = checked_out(checkout, options.ref)
    ref = surroundings.ref if surroundings.ref and surroundings.commit == commit else commit
    return RepoSpec(url or str(checkout.absolute()), ref, options.subdirectory)


def _commit(context: Context, spec: RepoSpec, checkout: Path | None, ref: str) -> Commit:
    fetching = context.facility.fetching
    if checkout is None:
        return resolve_ref(spec, fetching)
    check_location(spec.location, fetching, local=True)
    identifier = checked_out(checkout, ref)
    commit = Commit(spec, identifier, spec.ref)
    adopt(commit, checkout, context.facility.cache, fetching)
    return commit


def _build(
    context: Context, options: CiOptions, commit: Commit, surroundings: Surroundings, report: Reporter
) -> _Built:
    """Build into the registry; into a layout where pushing is not wanted, not allowed, or not possible."""
    facility, bases = context.facility, context.bases(options.base)
    wanted = BuildOptions(options.as_of)
    why = withheld(options, surroundings)
    if isinstance(facility.store, LayoutStore):
        record = build(commit.spec, bases, facility, report, options=wanted, rebuild=options.rebuild, commit=commit)
        return _Built(record, facility, f"{facility.registry} is a directory of image layouts")
    if not why:
        try:
            record = build(commit.spec, bases, facility, report, options=wanted, rebuild=options.rebuild, commit=commit)
            return _Built(record, facility)
        except RegistryAuthError as refused:
            if options.push == "must" or docker_credentials(facility.registry) is not None:
                raise
            why = f"there are no credentials for {facility.registry}, and it wants some ({refused})"
    layout = (options.layout or facility.cache / "unpushed").absolute()
    aside = replace(facility, store=LayoutStore(layout), registry=f"oci:{layout}")
    offers = tuple(
        replace(offer, choice=replace(offer.choice, store=offer.choice.store or facility.store))
        for offer in bases.offers
    )
    elsewhere = Bases(offers, stated=bases.stated)
    record = build(commit.spec, elsewhere, aside, report, options=wanted, rebuild=options.rebuild, commit=commit)
    return _Built(record, aside, why)


def _inspect(built: _Built) -> Inspection:
    facility = built.facility
    manifest = facility.store.get_manifest(built.repository, built.record.digest)
    return inspect(Location(facility.store, facility.registry, built.repository, manifest), facility.cache)


def _linked(outcome: Outcome, context: Context, options: CiOptions, commit: Commit) -> Outcome:
    service = (options.service or context.site.service.url or "").rstrip("/")
    outcome = replace(outcome, service=service)
    if not service:
        return outcome
    known, hosts = catalogue(context.catalogues), context.facility.fetching.hosts
    try:
        link = launch_link(service, commit.spec, known, hosts, base=options.base or "", as_of=options.as_of)
    except NoLinkError as why:
        return replace(outcome, unlinked=str(why))
    return replace(outcome, launch=link)


def _compared(
    outcome: Outcome, context: Context, options: CiOptions, commit: Commit, checkout: Path | None, found: Inspection
) -> Outcome:
    """Return the outcome with what changed since the branch's last build; not knowing it is no failure."""
    facility, bases = context.facility, context.bases(options.base)
    stated = BuildOptions(options.as_of, facility.compression)
    commits = history(checkout, commit.id, MOST_COMMITS) if checkout else []
    if not commits:
        return replace(outcome, unknown_change="the checkout has no earlier commits (fetch more than one of them)")

    def alias_of(identifier: str) -> str:
        return commit_alias(identifier, commit.spec.subdirectory, bases, stated)

    repository = facility.repository(commit.spec.slug)
    try:
        change = change_since(commits, alias_of, facility.store, repository, found, facility.cache)
    except CasabinderError as error:
        return replace(outcome, unknown_change=str(error))
    unknown = "" if change else f"none of the {len(commits)} commits before this one was built"
    return replace(outcome, change=change, unknown_change=unknown)


def _tested(
    context: Context,
    options: CiOptions,
    commit: Commit,
    built: _Built,
    found: Inspection,
    say: Callable[[str], None],
) -> SmokeReport:
    if options.smoke_test == "off":
        return SmokeReport("skipped", why="--smoke-test off was given")
    from builder.environment.detect import detect
    from builder.repository.checkout import checkout
    from launcher.ci.smoke import plan_smoke_test
    from launcher.ci.smoke_container import StoredImage, engine_is_missing, smoke_test

    facility = context.facility
    tree = checkout(commit, facility.cache, facility.fetching)
    plan = plan_smoke_test(detect(tree), tree, found.contents)
    if plan.empty:
        return SmokeReport("skipped", why="the repository declares nothing that could be tried")
    missing = engine_is_missing(facility.containers)
    if missing:
        why = f"it needs a container engine: {missing}"
        return SmokeReport("failed" if options.smoke_test == "require" else "skipped", why=why)
    image = StoredImage(built.record, built.facility.store, built.repository)
    try:
        return smoke_test(image, plan, facility.containers, say)
    except EngineError as error:  # the image is built, whatever the engine can do with it
        return SmokeReport("failed", why=str(error))


def _tagged(built: _Built, tags: tuple[str, ...]) -> tuple[str, ...]:
    """Set the tags that were asked for, and return the images' names with them."""
    if not tags:
        return ()
    name = built.record.image.rpartition(":")[0]
    manifest = built.facility.store.get_manifest(built.repository, built.record.digest)
    for tag in tags:
        built.facility.store.put_manifest(built.repository, tag, manifest)
    return tuple(f"{name}:{tag}" for tag in tags)
