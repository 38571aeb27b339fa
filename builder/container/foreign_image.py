"""Makes the image of a repository with a ``Dockerfile``: built by the engine, then checked, layered and pushed here.

Nothing of the base is promised to be in it. Layers that the Dockerfile took from the base (``FROM`` one of the
facility's bases) stay the base's own, byte for byte; others are rewritten once (:mod:`builder.container.saved_layers`);
``env.json`` comes on top as in every image. What workers and servers lack is told, and kept in the manifest's
annotations.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.container.dockerfile import built_image
from builder.container.image_check import ImageFacts, check_image, look_into, offers_workers
from builder.container.saved_layers import rewrite_layer, save_image
from builder.container.step import BUILD_LABEL, LABEL
from builder.image import Image, ImageSettings, Parent, make_image
from builder.layers.layer import RECIPE, Entry
from builder.plan import IDENTITY_FILE
from builder.publish import Part, put_image, put_part
from builder.record import BaseFacts, LayerFacts
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from builder.container.saved_layers import SavedImage
    from builder.events import Progress
    from builder.facility import Facility
    from builder.layers.layer import Layer
    from builder.plan import BuildPlan
    from builder.record import ImageRecord, Source

PYTHON_ANNOTATION = "org.casabinder.python"
WORKERS_ANNOTATION = "org.casabinder.workers"


def make_foreign_image(
    path: str, planned: BuildPlan, facility: Facility, repository: str, progress: Progress
) -> tuple[Image, tuple[LayerFacts, ...]]:
    """Build the Dockerfile at ``path`` of the plan's tree, and push the image under the plan's ``image_id``.

    Raises :class:`CasabinderError` when it can't be built, or no notebook server can start in it.
    """
    limits = facility.containers

    def say(line: str) -> None:
        progress.say(f"{path}: {line}")

    facility.cache.mkdir(parents=True, exist_ok=True)
    with (
        built_image(planned.tree, path, limits, say) as built,
        tempfile.TemporaryDirectory(prefix=".saved-", dir=facility.scratch or facility.cache) as scratch,
    ):
        facts = look_into(built, path, limits)
        for note in check_image(facts, path):
            progress.say(note)
        saved = save_image(built, Path(scratch) / "image.tar")
        return _push(saved, facts, planned, facility, repository, Path(scratch))


def foreign_record(record: ImageRecord, path: str, image: Image) -> ImageRecord:
    """Return a record that says what is true of an image with a Dockerfile: it has no base and no lock."""
    python = image.manifest.annotations.get(PYTHON_ANNOTATION, "")
    packages = dict.fromkeys(record.packages, 0)
    return replace(record, base=BaseFacts("Dockerfile", path, "", python), packages=packages)


def foreign(record: ImageRecord) -> bool:
    """Return whether the record is of an image with a Dockerfile."""
    return record.base.name == "Dockerfile"


def foreign_facts(image: Image, planned: BuildPlan) -> tuple[LayerFacts, ...]:
    """Return the facts of the layers of such an image that was in the registry already."""
    return _facts(image, planned, ["cached"] * len(image.manifest.layers))


def _push(
    saved: SavedImage, facts: ImageFacts, planned: BuildPlan, facility: Facility, repository: str, scratch: Path
) -> tuple[Image, tuple[LayerFacts, ...]]:
    base, store, shared = planned.base, facility.store, facility.shared_layers
    below = _of_the_base(saved, planned)
    outcomes: list[Source] = ["base"] * below
    for descriptor in base.manifest.layers[:below]:
        mounts = (base.repository,) if base.store is store else ()
        put_part(store, repository, Part(descriptor, mounts=mounts, origin=(base.store, base.repository)))
    layers: list[Layer] = []
    for wanted in saved.layers[below:]:
        layer = shared.lookup(wanted.key)
        outcomes.append("mounted" if layer else "uploaded")
        if layer is None:
            layer = rewrite_layer(saved, wanted, "a layer of the Dockerfile", scratch / "layer.tar.gz")
            put_part(store, shared.repository, Part(layer.descriptor, blob=layer.blob))
            shared.record(layer)
        put_part(
            store,
            repository,
            Part(layer.descriptor, mounts=(shared.repository,), origin=(store, shared.repository)),
        )
        layers.append(layer)
    identity = _identity_layer(planned, facts, facility)
    put_part(store, repository, Part(identity.descriptor, blob=identity.blob))
    outcomes.append("uploaded")
    image = _image(saved, below, [*layers, identity], facts, planned)
    put_image(store, repository, image, [planned.image_id])
    return image, _facts(image, planned, outcomes)


def _of_the_base(saved: SavedImage, planned: BuildPlan) -> int:
    """Return how many layers the image has in common with the base: all of the base's, or none."""
    base = planned.base.config.get("rootfs", {}).get("diff_ids") or []
    return len(base) if [layer.diff_id for layer in saved.layers[: len(base)]] == base else 0


def _identity_layer(planned: BuildPlan, facts: ImageFacts, facility: Facility) -> Layer:
    document = {
        "env_id": planned.env_id,
        "image_id": planned.image_id,
        "tree": planned.tree.tree_id,
        "base": {"name": "Dockerfile", "digest": ""},
        "python": facts.python,
        "lock_sha256": "",
        "platform": planned.base.inventory.target.platform,
        "recipe": RECIPE,
    }
    described = canonical_json(document)
    key = sha256_digest(canonical_json({"recipe": RECIPE, "inputs": {"kind": "identity", "text": described.decode()}}))
    return facility.layer_cache.build(key[7:], "env.json", lambda: [Entry(IDENTITY_FILE, "file", described)])


def _image(saved: SavedImage, below: int, layers: list[Layer], facts: ImageFacts, planned: BuildPlan) -> Image:
    run = dict(saved.config.get("config") or {})
    ours = (LABEL, BUILD_LABEL)
    run["Labels"] = {name: value for name, value in (run.get("Labels") or {}).items() if name not in ours}
    base = planned.base
    rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in saved.layers[:below]]}
    history = list(base.config.get("history") or ()) if below else []
    kept = {  # not ExposedPorts: see base_images/assemble.py
        "Env",
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "Labels",
        "Volumes",
        "StopSignal",
        "Shell",
    }
    config = {
        "config": {name: value for name, value in run.items() if name in kept and value},
        "rootfs": rootfs,
        "history": history,
    }
    notes = {
        "org.casabinder.env-id": planned.env_id,
        "org.casabinder.image-id": planned.image_id,
        PYTHON_ANNOTATION: facts.python,
        WORKERS_ANNOTATION: "yes" if offers_workers(facts) else "no",
    }
    architecture = str(saved.config.get("architecture") or "amd64")
    settings = ImageSettings(labels={name: notes[name] for name in list(notes)[:2]})
    return make_image(Parent(base.manifest.layers[:below], config), layers, settings, notes, architecture)


def _facts(image: Image, planned: BuildPlan, sources: list[Source]) -> tuple[LayerFacts, ...]:
    layers = image.manifest.layers
    below = len(planned.base.manifest.layers)
    of_base = [layer.digest for layer in layers[:below]] == [layer.digest for layer in planned.base.manifest.layers]
    name = planned.base.inventory.name
    whats = [name] * below if of_base else []
    whats += ["a layer of the Dockerfile"] * (len(layers) - len(whats) - 1) + ["env.json"]
    told: list[Source] = ["base" if of_base and number < below else source for number, source in enumerate(sources)]
    return tuple(
        LayerFacts(layer.digest, layer.size, what, source)
        for layer, what, source in zip(layers, whats, told, strict=True)
    )
