"""The line: a repository and a ref become one image in a registry.

::

    RepoSpec -resolve-> Commit -checkout-> Tree -detect-> EnvironmentSpec -lock-> Lock -plan-> BuildPlan
             -assemble-> Image -publish-> ImageRecord

A commit that was built before with the same base and options is answered by one HEAD request (its alias tag). Another
commit whose environment and tree were built before gets its alias and record, nothing else.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder.base import Base, load_base
from builder.environment.detect import detect
from builder.events import Phases, Progress, Reporter, silent
from builder.facility import FacilityLayers
from builder.identity import alias_tag
from builder.image import Image, ImageSettings, Parent, make_image
from builder.layers.cache import LayerCache
from builder.lock import Lock, compare, lock
from builder.plan import BuildPlan, EntryLayer, plan
from builder.publish import Part, put_image, put_part, put_parts
from builder.pylock import read_pylock, write_pylock
from builder.record import (
    BaseFacts,
    ImageRecord,
    LayerFacts,
    RecordShelf,
    as_cached,
    attach_record,
    read_lock,
    read_record,
)
from builder.repository import Commit, RepoSpec, Tree, checkout, resolve_ref
from builder.resolver import PackageIndex
from builder.wheel_layers import PlannedLayer, make_wheel_layers
from builder.wheelhouse import Wheelhouse
from registry_sync.errors import CasabinderError, NotFoundError
from registry_sync.reference import ImageReference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.environment.spec import EnvironmentSpec
    from builder.layers.layer import Layer
    from registry_sync.store import Store

_WORKERS = 4


@dataclass(frozen=True)
class Facility:
    """Where a builder works: the store that images go to (``registry`` is its name, ``prefix`` comes before every
    repository), the local cache, and the package index."""

    store: Store
    registry: str
    prefix: str
    cache: Path
    index: PackageIndex = field(default_factory=PackageIndex)

    def repository(self, name: str) -> str:
        """Return a repository's full name below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    @property
    def wheelhouse(self) -> Wheelhouse:
        """The wheels on disk."""
        return Wheelhouse(self.cache / "wheels", ca_bundle=self.index.ca_bundle)

    @property
    def layer_cache(self) -> LayerCache:
        """The layers on disk."""
        return LayerCache(self.cache / "layers")

    @property
    def shared_layers(self) -> FacilityLayers:
        """The layers in the registry."""
        return FacilityLayers(self.store, self.repository("layers"))


@dataclass(frozen=True)
class BaseChoice:
    """Which base to build on: its store (``None``: the facility's), the registry's name, repository, tag or digest."""

    registry: str
    repository: str
    reference: str
    store: Store | None = None

    def __str__(self) -> str:
        separator = "@" if ":" in self.reference else ":"
        return f"{self.registry}/{self.repository}{separator}{self.reference}"


@dataclass(frozen=True)
class Prepared:
    """A build that is planned in full and has changed nothing yet: what ``--dry-run`` shows."""

    commit: Commit
    spec: EnvironmentSpec
    plan: BuildPlan


def build(
    spec: RepoSpec,
    choice: BaseChoice,
    facility: Facility,
    report: Reporter = silent,
    *,
    rebuild: bool = False,
    clock: Callable[[], float] = time.time,
) -> ImageRecord:
    """Build ``spec`` on the chosen base, push it, and return its record. ``rebuild`` does not take what is there.

    Raises :class:`CasabinderError` (of many kinds) with one sentence for the user; nothing half-made is left.
    """
    began = time.monotonic()
    phases = Phases(report)
    with phases.phase("resolve", f"resolving {spec.ref} of {spec.public_url}") as progress:
        commit = resolve_ref(spec)
        progress.summary = f"commit {commit.id[:12]}"
    repository = facility.repository(spec.slug)
    alias = _alias(commit, choice)
    shelf = RecordShelf(facility.cache / "records")
    if not rebuild:
        known = facility.store.head_manifest(repository, alias)
        if known is not None:
            record = shelf.get(known.digest, commit.id) or read_record(
                facility.store, repository, known.digest, commit.id
            )
            if record is not None:
                shelf.put(record)
                return _told(as_cached(record, _seconds(phases, began)), facility, repository)
    prepared = _prepare(commit, choice, facility, phases, fresh=rebuild, clock=clock)
    record = _make(prepared, choice, facility, phases, repository, alias, rebuild=rebuild, began=began, clock=clock)
    shelf.put(record)
    return record


def dry_run(spec: RepoSpec, choice: BaseChoice, facility: Facility, report: Reporter = silent) -> Prepared:
    """Do what :func:`build` does up to the point where layers would be made, and return the plan."""
    phases = Phases(report)
    with phases.phase("resolve", f"resolving {spec.ref} of {spec.public_url}"):
        commit = resolve_ref(spec)
    return _prepare(commit, choice, facility, phases, fresh=False, clock=time.time)


def verify(image: str, facility: Facility, scratch: Path, report: Reporter = silent) -> tuple[str, str]:
    """Make an image again from its own lock, base and commit, with every layer written anew below ``scratch``.

    Returns the digest that the registry has and the digest that came out; they are equal for a reproducible image.
    Raises :class:`CasabinderError` when the image is not one of ours or its repository can't be had any more.
    """
    reference = ImageReference.parse(image)
    there = facility.store.get_manifest(reference.repository, reference.reference)
    records = _records(facility.store, reference.repository, there.digest)
    record = records[0]
    phases = Phases(report)
    with phases.phase("fetch", f"fetching {record.repo} at {record.commit[:12]}"):
        tree = checkout(resolve_ref(RepoSpec(record.repo, record.commit)), facility.cache)
        environment = detect(tree)
    base_reference = ImageReference.parse(record.base.reference)
    base = load_base(facility.store, facility.registry, base_reference.repository, record.base.digest, facility.cache)
    with phases.phase("lock", "reading the image's own lock"):
        target = base.inventory.target
        text = read_lock(facility.store, reference.repository, there.digest)
        packages = read_pylock(text, target, f"the lock of {image}")
        locked = _exactly(compare(packages, base.inventory.analysis.by_name, target), text, base)
    planned = plan(base, _sized(locked, facility), environment, tree)
    away = replace(facility, cache=scratch)
    with phases.phase("layers", "making every layer again") as progress:
        cache = away.layer_cache
        layers = [_entry_layer(layer, cache) for layer in planned.below]
        layers += make_wheel_layers(
            planned.wheels, base.install_target, facility.wheelhouse, cache, downloaded=progress.add
        )
        layers += [_entry_layer(layer, cache) for layer in planned.above]
    return there.digest, _image(planned, layers).digest


def _records(store: Store, repository: str, digest: str) -> list[ImageRecord]:
    import json

    from builder.record import RECORD_TYPE

    found = []
    for referrer in store.referrers(repository, digest, RECORD_TYPE):
        artifact = store.get_manifest(repository, referrer.digest)
        found.append(ImageRecord.from_json(json.loads(store.read_blob(repository, artifact.layers[0].digest))))
    if not found:
        raise CasabinderError(f"{repository}@{digest} carries no record; it was not built by casabinder")
    return found


def _exactly(answer: Lock, text: str, base: Base) -> Lock:
    """Drop from a comparison what the stored lock does not name: packages that were removed of the base."""
    named = {package.name for package in read_pylock(text, base.inventory.target)}
    removed = tuple(package for package in answer.packages if package.name not in named)
    kept = tuple(package for package in answer.packages if package.name in named)
    return replace(answer, packages=kept, removed=tuple(sorted({*answer.removed, *removed})))


def _alias(commit: Commit, choice: BaseChoice) -> str:
    options = {"base": f"{choice.repository}:{choice.reference}", "subdirectory": commit.spec.subdirectory}
    return alias_tag(commit.id, options)


def _prepare(
    commit: Commit,
    choice: BaseChoice,
    facility: Facility,
    phases: Phases,
    *,
    fresh: bool,
    clock: Callable[[], float],
) -> Prepared:
    with phases.phase("fetch", f"fetching commit {commit.id[:12]}") as progress:
        tree: Tree = checkout(commit, facility.cache)
        spec = detect(tree)
        progress.summary = spec.file or "no environment file: the base as it is"
        for note in spec.notes:
            progress.say(note)
    with phases.phase("lock", f"locking against {choice.repository.rpartition('/')[2]}") as progress:
        base = _load(choice, facility)
        answer = lock(spec, base, facility.index, facility.cache, fresh=fresh, clock=clock)
        answer = _sized(answer, facility)
        counts = answer.report()
        progress.summary = (
            f"{counts['from_base']} from the base, {counts['added']} added, {counts['replaced']} replaced"
        )
        for note in answer.notes:
            progress.say(note)
    return Prepared(commit, spec, plan(base, answer, spec, tree))


def _load(choice: BaseChoice, facility: Facility) -> Base:
    store = choice.store or facility.store
    try:
        return load_base(store, choice.registry, choice.repository, choice.reference, facility.cache)
    except NotFoundError as error:
        raise CasabinderError(
            f"the base image {choice} is not in the registry; make it with `casabinder base build`, "
            "or choose another with --base"
        ) from error


def _sized(answer: Lock, facility: Facility) -> Lock:
    """Return the lock with the sizes of the wheels that get layers, which the grouping needs."""
    sizes = {package.sha256: package for package in facility.wheelhouse.sized(answer.layered)}
    return replace(
        answer,
        packages=tuple(sizes.get(package.sha256, package) for package in answer.packages),
        added=tuple(sizes[package.sha256] for package in answer.added),
        replaced=tuple((old, sizes[new.sha256]) for old, new in answer.replaced),
    )


def _make(
    prepared: Prepared,
    choice: BaseChoice,
    facility: Facility,
    phases: Phases,
    repository: str,
    alias: str,
    *,
    rebuild: bool,
    began: float,
    clock: Callable[[], float],
) -> ImageRecord:
    planned = prepared.plan
    there = None if rebuild else facility.store.head_manifest(repository, planned.image_id)
    if there is not None:
        manifest = facility.store.get_manifest(repository, there.digest)
        image = Image(manifest, b"")
        facts = _facts(planned, image, ["cached"] * len(manifest.layers), [])
    else:
        with phases.phase("layers", f"making {_count(planned)} layers") as progress:
            cache = facility.layer_cache
            entry_layers = [_entry_layer(layer, cache) for layer in (*planned.below, *planned.above)]
            wheel_layers = _wheel_layers(planned, facility, progress)
            below = len(planned.below)
            layers = [*entry_layers[:below], *wheel_layers, *entry_layers[below:]]
            image = _image(planned, layers)
            progress.summary = f"{sum(layer.size for layer in layers) / 1e6:.1f} MB above the base"
        with phases.phase("push", f"pushing to {facility.registry}/{repository}") as progress:
            sources = _push(planned, choice, facility, repository, image, layers, progress)
            facts = _facts(planned, image, sources, layers)
            progress.summary = f"{sum(f.bytes for f in facts if f.source == 'uploaded') / 1e6:.1f} MB uploaded"
    record = ImageRecord(
        image=f"{facility.registry}/{repository}:{planned.image_id}",
        digest=image.digest,
        env_id=planned.env_id,
        image_id=planned.image_id,
        repo=prepared.commit.spec.public_url,
        ref=prepared.commit.spec.ref,
        commit=prepared.commit.id,
        base=BaseFacts(
            planned.base.inventory.name, str(choice), planned.base.digest, planned.base.inventory.target.python
        ),
        lock_sha256=planned.lock.sha256,
        reproducible=True,
        created=datetime.fromtimestamp(clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        packages=planned.lock.report(),
        layers=facts,
        bytes={
            "total": sum(layer.size for layer in image.manifest.layers),
            "new": sum(fact.bytes for fact in facts if fact.source != "base"),
            "uploaded": sum(fact.bytes for fact in facts if fact.source == "uploaded"),
        },
        seconds=_seconds(phases, began),
        cached=there is not None,
    )
    pylock = write_pylock(planned.lock.packages, planned.base.inventory.target)
    attach_record(facility.store, repository, image.manifest.descriptor(), record, pylock)
    put_image(facility.store, repository, image, [alias])
    return replace(record, seconds=_seconds(phases, began))


def _count(planned: BuildPlan) -> int:
    return len(planned.below) + len(planned.wheels) + len(planned.above)


def _entry_layer(layer: EntryLayer, cache: LayerCache) -> Layer:
    return cache.build(layer.key, layer.what, layer.entries)


def _wheel_layers(planned: BuildPlan, facility: Facility, progress: Progress) -> list[Layer]:
    """Return the layers of wheels, each in the facility's layer repository afterwards.

    Every layer goes its own way at its own speed: known layers cost a request, others are downloaded, made and
    uploaded while the next ones are still coming in.
    """
    shared, cache = facility.shared_layers, facility.layer_cache

    def one(planned_layer: PlannedLayer) -> Layer:
        known = shared.lookup(planned_layer.key)
        if known is not None:
            cache.remember(known)
            return replace(known, what=planned_layer.what)
        target = planned.base.install_target
        (layer,) = make_wheel_layers([planned_layer], target, facility.wheelhouse, cache, downloaded=progress.add)
        put_part(facility.store, shared.repository, Part(layer.descriptor, blob=layer.blob))
        shared.record(layer)
        return layer

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(one, planned.wheels))


def _push(
    planned: BuildPlan,
    choice: BaseChoice,
    facility: Facility,
    repository: str,
    image: Image,
    layers: list[Layer],
    progress: Progress,
) -> list[str]:
    """Bring the image into its repository and return where each of its layers came from."""
    base = planned.base
    elsewhere = choice.store is not None
    parts = [
        Part(
            descriptor,
            mounts=() if elsewhere else (base.repository,),
            origin=(base.store, base.repository),
        )
        for descriptor in base.manifest.layers
    ]
    shared = facility.shared_layers.repository
    wheel_keys = {planned_layer.key for planned_layer in planned.wheels}
    for layer in layers:
        blob = layer.blob or getattr(facility.layer_cache.get(layer.key), "blob", None)
        origin = (facility.store, shared)
        if layer.key in wheel_keys:
            parts.append(Part(layer.descriptor, mounts=(shared,), blob=blob, origin=origin))
        else:
            parts.append(Part(layer.descriptor, blob=blob))
    progress.total = sum(part.descriptor.size for part in parts if part.blob)
    outcomes = put_parts(facility.store, repository, parts, progress.add)
    put_image(facility.store, repository, image, [planned.image_id])
    names = {"present": "cached", "mounted": "mounted", "uploaded": "uploaded", "copied": "uploaded"}
    below = len(base.manifest.layers)
    made_now = {layer.key for layer in layers if layer.blob is not None and layer.key in wheel_keys}
    sources = ["base"] * below
    for layer, outcome in zip(layers, outcomes[below:], strict=True):
        sources.append("uploaded" if layer.key in made_now and outcome == "mounted" else names[outcome])
    return sources


def _image(planned: BuildPlan, layers: list[Layer]) -> Image:
    base = planned.base
    notes = {
        "org.casabinder.env-id": planned.env_id,
        "org.casabinder.image-id": planned.image_id,
        "org.opencontainers.image.base.digest": base.digest,
    }
    settings = ImageSettings(environment={"CASABINDER_ENV_ID": planned.env_id}, labels=notes)
    return make_image(Parent(base.manifest.layers, base.config), layers, settings, notes)


def _facts(planned: BuildPlan, image: Image, sources: list[str], layers: list[Layer]) -> tuple[LayerFacts, ...]:
    below = len(planned.base.manifest.layers)
    whats = [layer.what for layer in layers] or [
        *(layer.what for layer in planned.below),
        *(layer.what for layer in planned.wheels),
        *(layer.what for layer in planned.above),
    ]
    facts = []
    for number, descriptor in enumerate(image.manifest.layers):
        of_base = number < below
        what = planned.base.inventory.name if of_base else whats[number - below]
        source = "base" if of_base else sources[number]
        facts.append(LayerFacts(descriptor.digest, descriptor.size, what, source))  # type: ignore[arg-type]
    return tuple(facts)


def _told(record: ImageRecord, facility: Facility, repository: str) -> ImageRecord:
    """Return a stored record with the image's name as it is reached from here."""
    return replace(record, image=f"{facility.registry}/{repository}:{record.image_id}")


def _seconds(phases: Phases, began: float) -> dict[str, float]:
    seconds = {name: round(value, 3) for name, value in phases.seconds.items()}
    return {**seconds, "total": round(time.monotonic() - began, 3)}
