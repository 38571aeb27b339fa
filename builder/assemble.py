"""Carries a plan out: makes its layers, puts the image together, and brings both into the image's repository.

Everything before this is decided without making anything; nothing here decides anything.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.image import Image, ImageSettings, Parent, make_image
from builder.publish import LostBlobError, Part, put_part, put_parts, put_tags
from builder.record import LayerFacts
from builder.seen_images import NOTHING
from builder.upload_along import UploadAlong
from builder.wheel_layers import PlannedLayer, make_wheel_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.events import Progress
    from builder.facility import BaseChoice, Facility
    from builder.layers.cache import LayerCache
    from builder.layers.layer import Layer
    from builder.plan import BuildPlan, EntryLayer
    from builder.publish import Outcome
    from builder.record import Source

BASE_DIGEST = "org.opencontainers.image.base.digest"

_WORKERS = 4


def make_layers(
    planned: BuildPlan,
    facility: Facility,
    cache: LayerCache,
    progress: Progress,
    *,
    share: bool = True,
    sure: bool = False,
) -> list[Layer]:
    """Return all layers above the base, bottom first; each is in ``cache`` or in the facility's shared layers.

    Every wheel layer goes its own way at its own speed: known ones cost a request, others are downloaded, made and
    uploaded while the next ones are still coming in. With ``share=False`` the registry is neither asked nor changed;
    with ``sure=True`` it is asked whatever is remembered of it.
    """
    shared = facility.shared_layers

    def one(wanted: PlannedLayer) -> Layer:
        known = shared.lookup(wanted.key, sure=sure) if share else None
        if known is not None:
            cache.remember(known)
            return replace(known, what=wanted.what)
        target = planned.base.install_target
        with UploadAlong(facility.store, shared.repository) as upload:
            (layer,) = make_wheel_layers(
                [wanted],
                target,
                facility.wheelhouse,
                cache,
                downloaded=progress.add,
                interpreter=lambda: planned.base.interpreter(facility.cache),
                compression=planned.compression,
                written_to=upload.follow if share else None,
            )
            if share:
                if not upload.finish(layer.descriptor):
                    put_part(facility.store, shared.repository, Part(layer.descriptor, blob=layer.blob))
                shared.record(layer)
        return layer

    def small(layers: Sequence[EntryLayer]) -> list[Layer]:
        return [cache.build(layer.key, layer.what, layer.entries, planned.compression) for layer in layers]

    with ThreadPoolExecutor(_WORKERS) as pool:
        wheels = pool.map(one, planned.wheels)
        return [*small(planned.below), *wheels, *small(planned.above)]


def make_planned_image(planned: BuildPlan, layers: Sequence[Layer]) -> Image:
    """Return the image of ``layers`` on the plan's base."""
    base = planned.base
    notes = {
        "org.casabinder.env-id": planned.env_id,
        "org.casabinder.image-id": planned.image_id,
        BASE_DIGEST: base.digest,
    }
    return make_image(
        Parent(base.manifest.layers, base.config), layers, ImageSettings(labels={**notes, **planned.labels}), notes
    )


def push(
    planned: BuildPlan,
    choice: BaseChoice,
    facility: Facility,
    repository: str,
    image: Image,
    layers: Sequence[Layer],
    progress: Progress,
) -> tuple[LayerFacts, ...]:
    """Bring the image into its repository under its ``image_id``, and return where each of its layers came from.

    What is remembered of the registry is taken for true. If it was not, it is forgotten, and everything done once more.
    """
    memory = facility.seen_images
    try:
        return _push(planned, choice, facility, repository, image, layers, progress, memory.blobs(repository))
    except LostBlobError:
        memory.forget(repository)
        layers = make_layers(planned, facility, facility.layer_cache, progress, sure=True)
        return _push(planned, choice, facility, repository, image, layers, progress, NOTHING)


def _push(
    planned: BuildPlan,
    choice: BaseChoice,
    facility: Facility,
    repository: str,
    image: Image,
    layers: Sequence[Layer],
    progress: Progress,
    known: frozenset[str],
) -> tuple[LayerFacts, ...]:
    base, shared, cache = planned.base, facility.shared_layers.repository, facility.layer_cache
    mounts = () if choice.store is not None else (base.repository,)
    parts = [Part(layer, mounts=mounts, origin=(base.store, base.repository)) for layer in base.manifest.layers]
    wheel_keys = {planned_layer.key for planned_layer in planned.wheels}
    for layer in layers:
        local = layer if layer.blob else cache.get(layer.key)
        blob = local.blob if local else None
        if layer.key in wheel_keys:
            parts.append(Part(layer.descriptor, mounts=(shared,), blob=blob, origin=(facility.store, shared)))
        else:
            parts.append(Part(layer.descriptor, blob=blob))
    # It names the image, which was not there a moment ago.
    parts.append(Part(image.manifest.config, blob=image.config, new=True))
    progress.total = sum(part.descriptor.size for part in parts if part.blob and part.descriptor.digest not in known)
    outcomes = put_parts(facility.store, repository, parts, progress.add, known=known)[len(base.manifest.layers) : -1]
    put_tags(facility.store, repository, image, [planned.image_id])
    facility.seen_images.remember(repository, image.manifest)
    made_now = {layer.key for layer in layers if layer.blob is not None and layer.key in wheel_keys}
    return _facts(
        planned,
        image,
        [_source(outcome, layer.key in made_now) for layer, outcome in zip(layers, outcomes, strict=True)],
    )


def cached_facts(planned: BuildPlan, image: Image) -> tuple[LayerFacts, ...]:
    """Return the facts of an image of this plan that was in its repository already."""
    return _facts(planned, image, ["cached"] * (len(image.manifest.layers) - len(planned.base.manifest.layers)))


def _source(outcome: Outcome, made_now: bool) -> Source:
    """A layer made now went to the shared layers first, so that its mount is the second half of an upload."""
    if outcome == "present":
        return "cached"
    return "mounted" if outcome == "mounted" and not made_now else "uploaded"


def _facts(planned: BuildPlan, image: Image, sources: Sequence[Source]) -> tuple[LayerFacts, ...]:
    below = len(planned.base.manifest.layers)
    name = planned.base.inventory.name
    layers = image.manifest.layers
    return (
        *(LayerFacts(layer.digest, layer.size, name, "base") for layer in layers[:below]),
        *(
            LayerFacts(layer.digest, layer.size, what, source)
            for layer, what, source in zip(layers[below:], planned.whats, sources, strict=True)
        ),
    )
