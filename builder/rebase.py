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
from builder.publish import Part, put_image, put_parts
from builder.record import RECORD_TYPE, BaseFacts, ImageRecord, LayerFacts, RecordShelf
from builder.repository.spec import Commit, RepoSpec
from builder.repository.tree import Tree
from builder.verify import base_of, exactly
from registry_sync.errors import CasabinderError, NotFoundError

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


@dataclass(frozen=True)
class _Stored:
    """What is stored with an image: a record and the inputs for every commit, and what it consists of."""

    builds: tuple[tuple[ImageRecord, BuildInputs], ...]
    contents: Contents
    lock: str


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
    began, started = time.monotonic(), clock()
    with locate(image, facility) as location:
        if location.store is not facility.store:
            raise RebaseRefusedError(f"{image} is not in the registry that this site builds for; copy it there first")
        stored = _read(location)
        newest_record, inputs = stored.builds[0]
        if not newest_record.reproducible or inputs.container:
            raise RebaseRefusedError(
                f"{image} has layers that a container made on the old base, and they may not fit the new one; "
                "build it again"
            )
        old, new = base_of(newest_record, location, facility), _load(new_base, facility)
        if old.digest == new.digest:
            raise RebaseRefusedError(f"{image} is on the base {new_base} already")
        before = exactly(read_pylock(stored.lock, old.inventory.target, f"the lock of {image}"), old)
        after = lock_on(BaseChange(image, old, new, before, stored.contents), inputs)
        compression = compression_of(location.manifest.layers)
        planned_before = _plan(old, before, newest_record, inputs, compression)
        planned = _plan(new, after, newest_record, inputs, compression)
        if planned_before.image_id != newest_record.image_id:
            raise RebaseRefusedError(f"{image} was made by another version of casabinder; build it again")
        layers = _layers(location, planned_before, planned, facility)
        result = make_planned_image(planned, layers)
        facts = _push(location, result, planned, layers, new_base, facility)
        records = [
            _finish(record, asked, planned, result, facts, new_base, facility, location, began, started, clock, stored)
            for record, asked in stored.builds
        ]
        for (_, asked), record in zip(stored.builds, records, strict=True):
            aliases = _aliases(record, asked, new_base, bases)
            put_image(facility.store, location.repository, result, aliases)
            RecordShelf(facility.cache / "records").put(record)
        return records[0]


def _read(location: Location) -> _Stored:
    store, repository = location.store, location.repository
    referrers = store.referrers(repository, location.digest)

    def read(kind: str, commit: str = "") -> bytes:
        found = newest(referrers, kind, commit)
        if found is None:
            name = next((name for name, its in DOCUMENTS.items() if its == kind), "record")
            raise RebaseRefusedError(f"{location} carries no {name}, so it can't be rebased; build it again")
        return read_artifact(store, repository, found)

    commits = sorted(
        {one.annotations.get(COMMIT_ANNOTATION, "") for one in referrers if one.artifact_type == RECORD_TYPE} or {""}
    )
    builds = [
        (
            ImageRecord.from_json(json.loads(read(RECORD_TYPE, commit))),
            read_provenance(read(DOCUMENTS["provenance"], commit)).inputs,
        )
        for commit in commits
    ]
    builds.sort(key=lambda pair: (pair[0].created, pair[0].commit), reverse=True)
    return _Stored(tuple(builds), read_sbom(read(DOCUMENTS["sbom"])), read(DOCUMENTS["lock"]).decode())


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
    manifest = location.manifest
    config = json.loads(location.store.read_blob(location.repository, manifest.config.digest))
    below = len(before.base.manifest.layers)
    there = list(zip(manifest.layers, config["rootfs"]["diff_ids"], strict=True))[below:]
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


def _planned(planned: BuildPlan) -> list[EntryLayer | PlannedLayer]:
    return [*planned.below, *planned.wheels, *planned.above]


def _push(
    location: Location,
    image: Image,
    planned: BuildPlan,
    layers: Sequence[Layer],
    choice: BaseChoice,
    facility: Facility,
) -> tuple[LayerFacts, ...]:
    """Bring what the image's repository lacks into it, and return where each layer came from."""
    base, shared = planned.base, facility.shared_layers.repository
    there = {layer.digest for layer in location.manifest.layers}
    mounts = () if choice.store is not None else (base.repository,)
    below = [
        Part(layer, mounts=mounts, origin=(base.store, base.repository))
        for layer in base.manifest.layers
        if layer.digest not in there
    ]
    above = [
        Part(layer.descriptor, mounts=() if layer.blob else (shared,), blob=layer.blob)
        for layer in layers
        if layer.digest not in there
    ]
    put_parts(facility.store, location.repository, [*below, *above])
    put_image(facility.store, location.repository, image, [planned.image_id])
    return (
        *(LayerFacts(layer.digest, layer.size, base.inventory.name, "base") for layer in base.manifest.layers),
        *(LayerFacts(one.digest, one.size, one.what, "uploaded" if one.blob else "mounted") for one in layers),
    )


def _finish(
    record: ImageRecord,
    inputs: BuildInputs,
    planned: BuildPlan,
    image: Image,
    facts: tuple[LayerFacts, ...],
    choice: BaseChoice,
    facility: Facility,
    location: Location,
    began: float,
    started: float,
    clock: Callable[[], float],
    stored: _Stored,
) -> ImageRecord:
    """Attach a commit's documents to the new image and return its record."""
    inventory = planned.base.inventory
    finished = clock()
    made = replace(
        record,
        image=f"{location.registry}/{location.repository}:{planned.image_id}",
        digest=image.digest,
        env_id=planned.env_id,
        image_id=planned.image_id,
        base=BaseFacts(inventory.name, str(choice), planned.base.digest, inventory.target.python),
        lock_sha256=planned.lock.sha256,
        created=datetime.fromtimestamp(finished, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        packages=planned.lock.report(),
        layers=facts,
        bytes={
            "total": sum(fact.bytes for fact in facts),
            "new": sum(fact.bytes for fact in facts if fact.source != "base"),
            "uploaded": sum(fact.bytes for fact in facts if fact.source == "uploaded"),
        },
        seconds={"total": round(time.monotonic() - began, 3)},
        cached=False,
    )
    attach_all(
        facility,
        location.repository,
        image.manifest,
        planned,
        made,
        inputs,
        log=f"put {record.image_id} ({record.digest}) onto the base {inventory.name} ({planned.base.digest})\n",
        started=started,
        finished=finished,
        requires={one.sha256: one.requires for one in stored.contents.of("analysis").values()},
    )
    return made


def _aliases(record: ImageRecord, inputs: BuildInputs, choice: BaseChoice, bases: Bases | None) -> list[str]:
    """Return the tags by which a build of the commit finds the new image."""
    options = BuildOptions(**inputs.options)
    answers = [Bases.only(choice)]
    if bases is not None and _chosen(inputs, bases) == choice:
        answers.append(bases)
    return [commit_alias(record.commit, record.subdirectory, one, options) for one in answers]


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
