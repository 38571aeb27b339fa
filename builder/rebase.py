"""Puts an image onto another base without building it: the base's layers are exchanged, the user's stay as they are.

::

    old image                  new image
    env.json                   env.json            made anew: it names the base and the env_id
    repository                 repository          in the image's repository already
    extra 1.0, ...             extra 1.0, ...      likewise
    whiteouts of the old       whiteouts of the    made anew against the new base's list of files
    old base's layers          new base's layers   mounted

Everything is decided by what is stored with the image (lock, SBOM, provenance) and with the new base (inventory), so
neither the repository nor the package index is asked and no layer is read. The result is, digest for digest, what a
build on the new base gives when it comes to the same lock. Where what the image took from its base is no longer
satisfied, the rebase is refused with the reason, and the commit has to be built again.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from builder.assemble import make_planned_image
from builder.attachments.attach import COMMIT_ANNOTATION, newest, read_artifact
from builder.attachments.bundle import attach_all
from builder.attachments.inspection import DOCUMENTS
from builder.attachments.location import locate
from builder.attachments.provenance import read_provenance
from builder.attachments.sbom import read_sbom
from builder.base import load_base
from builder.base_change import BaseChange, RebaseRefusedError, lock_on
from builder.build import commit_alias
from builder.choose import choose_base
from builder.environment.spec import EnvironmentSpec, StatedRequirement
from builder.facility import Bases
from builder.layers.layer import Compression, Layer, compression_of
from builder.locking.pylock import read_pylock
from builder.options import BuildOptions
from builder.plan import EntryLayer, plan
from builder.publish import Part, put_image, put_parts, put_tags
from builder.record import RECORD_TYPE, BaseFacts, ImageRecord, LayerFacts, RecordShelf
from builder.repository.spec import Commit, RepoSpec
from builder.repository.tree import Tree
from builder.verify import BaseGoneError, base_of, exactly
from registry_sync.errors import CasabinderError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.attachments.location import Location
    from builder.attachments.provenance import BuildInputs
    from builder.attachments.sbom import Contents
    from builder.base import Base
    from builder.facility import BaseChoice, Facility
    from builder.image import Image
    from builder.locking.lock import Lock
    from builder.plan import BuildPlan
    from builder.wheel_layers import PlannedLayer
    from registry_sync.manifest import Descriptor

_KEPT_BASES = 3


class NewBase:
    """The base that images are put on, read once. ``bases`` is what the facility offers to a build.

    The same image may be offered under another tag than that of ``choice``: a build that gets it finds what was
    rebased all the same.
    """

    def __init__(self, choice: BaseChoice, facility: Facility, bases: Bases | None = None) -> None:
        self.choice = choice
        self.base = _load(choice, facility)
        self.bases = bases
        offered = [offer.choice for offer in bases.offers if offer.choice != choice] if bases else []
        self.names = (choice, *(one for one in offered if self._is_it(one, facility)))

    def aliases(self, record: ImageRecord, inputs: BuildInputs) -> list[str]:
        """Return the tags by which builds of a commit find its image on this base; a click's is the last."""
        options = BuildOptions(**inputs.options)
        answers = [Bases.only(name) for name in self.names]
        if self.bases is not None and _chosen(inputs, self.bases) in self.names:
            answers.append(self.bases)
        return [commit_alias(record.commit, record.subdirectory, one, options) for one in answers]

    def _is_it(self, choice: BaseChoice, facility: Facility) -> bool:
        if choice.repository != self.base.repository:
            return False
        there = (choice.store or facility.store).head_manifest(choice.repository, choice.reference)
        return there is not None and there.digest == self.base.digest


class OldBases:
    """The bases that images are on, a few of them kept: many images share one, and reading one takes a while."""

    def __init__(self, facility: Facility) -> None:
        self._facility = facility
        self._kept: dict[tuple[str, str], Base] = {}
        self._lock = threading.Lock()

    def of(self, record: ImageRecord, location: Location) -> Base:
        """Return the base of an image; raise :class:`RebaseRefusedError` if it is not there any more."""
        name = record.base.reference, record.base.digest
        with self._lock:
            base = self._kept.pop(name, None)
            if base is None:
                try:
                    base = base_of(record, location, self._facility)
                except BaseGoneError as error:
                    raise RebaseRefusedError(str(error)) from error
            self._kept[name] = base  # the last one used stands last
            while len(self._kept) > _KEPT_BASES:
                del self._kept[next(iter(self._kept))]
        return base


@dataclass(frozen=True)
class Builds:
    """The builds that an image stands for, newest first: a record and the inputs of every commit."""

    all: tuple[tuple[ImageRecord, BuildInputs], ...]
    referrers: tuple[Descriptor, ...]

    @property
    def newest(self) -> ImageRecord:
        """The record of the last one."""
        return self.all[0][0]


@dataclass(frozen=True)
class Move:
    """An image that can be put onto another base: everything is decided, and the registry is as it was.

    ``began`` is when deciding began, on the monotonic clock.
    """

    location: Location
    builds: Builds
    contents: Contents
    target: NewBase
    planned: BuildPlan
    layers: tuple[Layer, ...]
    result: Image
    began: float


def rebase(
    image: str,
    new_base: BaseChoice,
    facility: Facility,
    *,
    bases: Bases | None = None,
    clock: Callable[[], float] = time.time,
) -> ImageRecord:
    """Put ``image``, which is in the facility's store, onto ``new_base``, and return the newest record of the result.

    Every commit that the image stands for gets its record, and its alias for ``new_base``; with ``bases`` (what the
    facility offers) also the alias for those where the repository would get ``new_base`` of them.

    Raises :class:`RebaseRefusedError` with the reason; nothing has been changed then.
    """
    with locate(image, facility) as location:
        if location.store is not facility.store:
            raise RebaseRefusedError(f"{image} is not in the registry that this site builds for; copy it there first")
        builds, target = read_builds(location), NewBase(new_base, facility, bases)
        move = plan_move(location, builds, target, OldBases(facility), facility)
        aliases = [alias for build in builds.all for alias in target.aliases(*build)]
        return carry_out(move, aliases, facility, clock)


def read_builds(location: Location) -> Builds:
    """Return the builds that an image stands for; raise :class:`RebaseRefusedError` if it does not say."""
    referrers = tuple(location.store.referrers(location.repository, location.digest))
    commits = sorted(
        {one.annotations.get(COMMIT_ANNOTATION, "") for one in referrers if one.artifact_type == RECORD_TYPE} or {""}
    )
    try:
        builds = [
            (
                ImageRecord.from_json(json.loads(_document(location, referrers, RECORD_TYPE, commit))),
                read_provenance(_document(location, referrers, DOCUMENTS["provenance"], commit)).inputs,
            )
            for commit in commits
        ]
    except RegistryError:
        raise
    except (CasabinderError, ValueError) as error:
        raise RebaseRefusedError(str(error)) from error
    builds.sort(key=lambda pair: (pair[0].created, pair[0].commit), reverse=True)
    return Builds(tuple(builds), referrers)


def plan_move(location: Location, builds: Builds, target: NewBase, old_bases: OldBases, facility: Facility) -> Move:
    """Decide how an image gets onto another base; raise :class:`RebaseRefusedError` with the reason if it can't."""
    began, image = time.monotonic(), f"{location.registry}/{location.repository}@{location.digest}"
    record, inputs = builds.all[0]
    if not record.reproducible or inputs.container:
        raise RebaseRefusedError(
            f"{image} has layers that a container made on the old base, and they may not fit the new one; "
            "build it again"
        )
    old, new = old_bases.of(record, location), target.base
    if old.digest == new.digest:
        raise RebaseRefusedError(f"{image} is on the base {target.choice} already")
    contents = read_sbom(_document(location, builds.referrers, DOCUMENTS["sbom"]))
    lock = _document(location, builds.referrers, DOCUMENTS["lock"]).decode()
    before = exactly(read_pylock(lock, old.inventory.target, f"the lock of {image}"), old)
    after = lock_on(BaseChange(image, old, new, before, contents), inputs)
    compression = compression_of(location.manifest.layers)
    planned_before = _plan(old, before, record, inputs, compression)
    planned = _plan(new, after, record, inputs, compression)
    if planned_before.image_id != record.image_id:
        raise RebaseRefusedError(f"{image} was made by another version of casabinder; build it again")
    layers = _layers(location, planned_before, planned, facility)
    result = make_planned_image(planned, layers)
    return Move(location, builds, contents, target, planned, tuple(layers), result, began)


def carry_out(
    move: Move, aliases: Sequence[str], facility: Facility, clock: Callable[[], float] = time.time
) -> ImageRecord:
    """Bring the image onto its new base and its documents with it, and give it ``aliases``; return its newest record.

    Aliases are set last, so whoever is interrupted can do it all again.
    """
    started = clock()
    facts = _push(move, facility)
    records = [_finish(move, record, asked, facts, facility, started, clock) for record, asked in move.builds.all]
    put_tags(facility.store, move.location.repository, move.result, aliases)
    for record in records:
        RecordShelf(facility.cache / "records").put(record)
    return records[0]


def _document(location: Location, referrers: Sequence[Descriptor], kind: str, commit: str = "") -> bytes:
    found = newest(referrers, kind, commit)
    if found is None:
        name = next((name for name, its in DOCUMENTS.items() if its == kind), "record")
        raise RebaseRefusedError(f"{location} carries no {name}, so it can't be rebased; build it again")
    return read_artifact(location.store, location.repository, found)


def _load(choice: BaseChoice, facility: Facility) -> Base:
    store = choice.store or facility.store
    try:
        return load_base(store, choice.registry, choice.repository, choice.reference, facility.cache)
    except NotFoundError as error:
        raise RebaseRefusedError(f"the base image {choice} is not in the registry") from error


def _plan(base: Base, lock: Lock, record: ImageRecord, inputs: BuildInputs, compression: Compression) -> BuildPlan:
    commit = Commit(RepoSpec(record.repo, record.commit, record.subdirectory), record.commit, record.ref)
    spec = EnvironmentSpec(kind="none", file=inputs.file, editables=inputs.editables, base=inputs.base)
    tree = Tree(commit, Path(), inputs.tree)
    return plan(base, lock, spec, tree, compression)  # no file of the tree is read


def _layers(location: Location, before: BuildPlan, planned: BuildPlan, facility: Facility) -> list[Layer]:
    """Return the layers above the new base: those of the image where the plan still has them, the small ones anew."""
    there = _described_layers(location)[len(before.base.manifest.layers) :]
    keys = [layer.key for layer in _planned(before)]
    if len(keys) != len(there):
        raise RebaseRefusedError(f"{location} was made by another version of casabinder; build it again")
    known = {
        key: Layer(key, "", descriptor.digest, descriptor.size, diff_id, descriptor.media_type)
        for key, (descriptor, diff_id) in zip(keys, there, strict=True)
    }
    content = {layer.key for layer in before.above if layer.what == "repository"}
    layers = []
    for wanted in _planned(planned):
        layer = known.get(wanted.key)
        if layer is not None:
            layers.append(replace(layer, what=wanted.what))
        elif isinstance(wanted, EntryLayer) and wanted.key not in content:
            layers.append(facility.layer_cache.build(wanted.key, wanted.what, wanted.entries, planned.compression))
        else:
            shared = facility.shared_layers.lookup(wanted.key)
            if shared is None:
                raise RebaseRefusedError(f"{location}: the layer of {wanted.what} has to be made anew; build it again")
            layers.append(replace(shared, what=wanted.what))
    return layers


def _described_layers(location: Location) -> list[tuple[Descriptor, str]]:
    """Return an image's layers, each with its diff_id."""
    configuration = location.store.read_blob(location.repository, location.manifest.config.digest)
    try:
        return list(zip(location.manifest.layers, json.loads(configuration)["rootfs"]["diff_ids"], strict=True))
    except (ValueError, KeyError, TypeError) as error:
        raise RebaseRefusedError(f"the configuration of {location} can't be read; build it again") from error


def _planned(planned: BuildPlan) -> list[EntryLayer | PlannedLayer]:
    return [*planned.below, *planned.wheels, *planned.above]


def _push(move: Move, facility: Facility) -> tuple[LayerFacts, ...]:
    """Bring what the image's repository lacks into it, and return where each layer came from."""
    location, base, shared = move.location, move.planned.base, facility.shared_layers.repository
    there = {layer.digest for layer in location.manifest.layers}
    mounts = () if move.target.choice.store is not None else (base.repository,)
    below = [
        Part(layer, mounts=mounts, origin=(base.store, base.repository))
        for layer in base.manifest.layers
        if layer.digest not in there
    ]
    above = [
        Part(layer.descriptor, mounts=() if layer.blob else (shared,), blob=layer.blob)
        for layer in move.layers
        if layer.digest not in there
    ]
    put_parts(facility.store, location.repository, [*below, *above])
    put_image(facility.store, location.repository, move.result, [move.planned.image_id])
    return (
        *(LayerFacts(layer.digest, layer.size, base.inventory.name, "base") for layer in base.manifest.layers),
        *(LayerFacts(one.digest, one.size, one.what, "uploaded" if one.blob else "mounted") for one in move.layers),
    )


def _finish(
    move: Move,
    record: ImageRecord,
    inputs: BuildInputs,
    facts: tuple[LayerFacts, ...],
    facility: Facility,
    started: float,
    clock: Callable[[], float],
) -> ImageRecord:
    """Attach a commit's documents to the new image and return its record."""
    planned, location = move.planned, move.location
    inventory = planned.base.inventory
    finished = clock()
    made = replace(
        record,
        image=f"{location.registry}/{location.repository}:{planned.image_id}",
        digest=move.result.digest,
        env_id=planned.env_id,
        image_id=planned.image_id,
        base=BaseFacts(inventory.name, str(move.target.choice), planned.base.digest, inventory.target.python),
        lock_sha256=planned.lock.sha256,
        created=datetime.fromtimestamp(finished, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        packages=planned.lock.report(),
        layers=facts,
        bytes={
            "total": sum(fact.bytes for fact in facts),
            "new": sum(fact.bytes for fact in facts if fact.source != "base"),
            "uploaded": sum(fact.bytes for fact in facts if fact.source == "uploaded"),
        },
        seconds={"total": round(time.monotonic() - move.began, 3)},
        cached=False,
    )
    attach_all(
        facility,
        location.repository,
        move.result.manifest,
        planned,
        made,
        inputs,
        log=f"put {record.image_id} ({record.digest}) onto the base {inventory.name} ({planned.base.digest})\n",
        started=started,
        finished=finished,
        requires={one.sha256: one.requires for one in move.contents.of("analysis").values()},
    )
    return made


def _chosen(inputs: BuildInputs, bases: Bases) -> BaseChoice | None:
    spec = EnvironmentSpec(
        kind="none",
        file=inputs.file,
        requirements=_stated((*inputs.requirements, *inputs.pins, *inputs.sources)),
        constraints=_stated(inputs.constraints),
        base=inputs.base,
        python=SpecifierSet(inputs.python),
        python_source=inputs.python_source,
    )
    try:
        return choose_base(spec, bases).offer.choice
    except CasabinderError:
        return None


def _stated(lines: Sequence[tuple[str, str]]) -> tuple[StatedRequirement, ...]:
    return tuple(StatedRequirement(Requirement(line), source) for line, source in lines)
