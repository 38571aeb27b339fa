"""Puts what ``apt.txt`` and ``postBuild`` change on top of an image that was made without running anything.

The image of the plan is in the registry already, by digest. Then, bottom to top::

    base, the repository's packages     made directly
    apt.txt                             run on the base alone: the layer is the same for all who ask for these packages
    repository, env.json                made directly
    postBuild                           run on all of the above

Both layers are kept among the facility's shared layers: ``apt.txt`` under the base's digest and the package names,
``postBuild`` under the digest of the image it ran on. Who finds them there starts no engine. Since Debian's mirrors
move on and ``postBuild`` may do anything, a layer lasts until somebody builds with ``--rebuild``.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builder.assemble import cached_facts
from builder.buildpacks import build_pack, check_steps, post_build_script
from builder.container import Step, finished_container, require_engine
from builder.engine_layers import layer_of
from builder.foreign_image import foreign_facts
from builder.image import Image, ImageSettings, Parent, make_image
from builder.layers.layer import RECIPE, Layer
from builder.plan import REPO_DIR
from builder.publish import Part, put_image, put_part
from builder.record import LayerFacts
from registry_sync.errors import CasabinderError
from registry_sync.manifest import Manifest, canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.environment.spec import ContainerSteps
    from builder.events import Progress
    from builder.facility import BaseChoice, Facility
    from builder.plan import BuildPlan
    from builder.record import Source

_WORKING_DIRECTORY = f"/{REPO_DIR}"


def announce(steps: ContainerSteps, progress: Progress) -> None:
    """Say what an engine will run; raise :class:`CasabinderError` for steps that can't be run at all."""
    check_steps(steps)
    if steps.dockerfile:
        progress.say(f"{steps.dockerfile}: a container engine builds it as it is; nothing is taken from the base")
        return
    if steps.apt:
        progress.say(
            f"apt.txt: a container engine installs {', '.join(sorted(steps.apt))} as root, unless it did before"
        )
    if steps.post_build:
        progress.say(f"{steps.post_build}: a container engine runs it as the user, unless it did before")


def run_container_steps(
    steps: ContainerSteps,
    planned: BuildPlan,
    choice: BaseChoice,
    facility: Facility,
    repository: str,
    image: Image,
    facts: Sequence[LayerFacts],
    progress: Progress,
    *,
    fresh: bool,
) -> tuple[Image, tuple[LayerFacts, ...]]:
    """Return ``image``, which is in ``repository``, with the layers of ``steps``, and push that as ``image_id``.

    ``fresh`` runs them again even though their layers are known. Raises :class:`CasabinderError` with one sentence.
    """
    work = _Workplace(facility, repository, progress, fresh)
    pack = build_pack(steps)
    layers: list[tuple[Layer, Source]] = []
    image = _with_path(image, planned.base.install_target.prefix)
    if steps.apt:
        base = planned.base.digest
        key = _key({"kind": "apt", "base": base, "packages": sorted(steps.apt)})
        ((user, script),) = pack("").get_preassemble_scripts()
        step = Step("apt.txt", f"{_registry(choice.registry)}/{choice.repository}@{base}", script, user)
        layers.append(work.layer(key, what_apt(steps), step))
        image = inserted(image, len(planned.above), layers[0][0])
    if steps.post_build:
        put_image(facility.store, repository, image, [])
        name = f"{_registry(facility.registry)}/{repository}@{image.digest}"
        (path,) = pack(name).get_post_build_scripts()
        step = Step(path, name, post_build_script(path), "1000:1000", _WORKING_DIRECTORY, passing=True)
        key = _key({"kind": "postBuild", "image": image.digest, "path": path})
        layers.append(work.layer(key, what_post_build(steps), step))
        image = inserted(image, 0, layers[-1][0])
    put_image(facility.store, repository, image, [planned.image_id])
    return image, with_steps(facts, planned, [_fact(layer, source) for layer, source in layers], steps)


def known_facts(steps: ContainerSteps | None, planned: BuildPlan, image: Image) -> tuple[LayerFacts, ...]:
    """Return the facts of an image of this plan, with the layers of its steps, that was in its repository already."""
    if steps is None:
        return cached_facts(planned, image)
    if steps.dockerfile:
        return foreign_facts(image, planned)
    layers = list(image.manifest.layers)
    found = []
    if steps.post_build:
        layer = layers.pop()
        found.append(LayerFacts(layer.digest, layer.size, what_post_build(steps), "cached"))
    if steps.apt:
        layer = layers.pop(len(layers) - len(planned.above) - 1)
        found.insert(0, LayerFacts(layer.digest, layer.size, what_apt(steps), "cached"))
    rest = Image(Manifest.image(image.manifest.config, layers), b"")
    return with_steps(cached_facts(planned, rest), planned, found, steps)


def with_steps(
    facts: Sequence[LayerFacts], planned: BuildPlan, found: Sequence[LayerFacts], steps: ContainerSteps
) -> tuple[LayerFacts, ...]:
    """Return the facts of all layers in the image's order."""
    at = len(facts) - len(planned.above)
    count = 1 if steps.apt else 0
    return (*facts[:at], *found[:count], *facts[at:], *found[count:])


def inserted(image: Image, above: int, layer: Layer) -> Image:
    """Return ``image`` with ``layer`` below its topmost ``above`` layers, which were made by ``make_image``."""
    config: dict[str, Any] = json.loads(image.config)
    layers = image.manifest.layers
    at = len(layers) - above
    diff_ids, history = config["rootfs"]["diff_ids"], config["history"]
    texts = [entry["created_by"].removeprefix("casabinder: ") for entry in history[len(history) - above :]]
    moved = [
        Layer("", text, descriptor.digest, descriptor.size, diff_id, descriptor.media_type)
        for text, descriptor, diff_id in zip(texts, layers[at:], diff_ids[at:], strict=True)
    ]
    config["rootfs"]["diff_ids"] = diff_ids[:at]
    config["history"] = history[: len(history) - above]
    notes = image.manifest.annotations
    return make_image(Parent(layers[:at], config), [layer, *moved], ImageSettings(), notes, config["architecture"])


def what_apt(steps: ContainerSteps) -> str:
    """Return the text for people of the layer of ``apt.txt``."""
    return f"Debian packages: {', '.join(sorted(steps.apt))}"


def what_post_build(steps: ContainerSteps) -> str:
    """Return the text for people of the layer of ``postBuild``."""
    return f"what {steps.post_build} made"


class _Workplace:
    """Finds the layers of steps, or makes them and brings them to the shared layers and the image's repository."""

    def __init__(self, facility: Facility, repository: str, progress: Progress, fresh: bool) -> None:
        self._facility = facility
        self._repository = repository
        self._progress = progress
        self._fresh = fresh

    def layer(self, key: str, what: str, step: Step) -> tuple[Layer, Source]:
        facility = self._facility
        shared = facility.shared_layers
        known = None if self._fresh else shared.lookup(key)
        layer = replace(known, what=what) if known else self._make(key, what, step)
        if known is None:
            put_part(facility.store, shared.repository, Part(layer.descriptor, blob=layer.blob))
            shared.record(layer)
        origin = (facility.store, shared.repository)
        put_part(facility.store, self._repository, Part(layer.descriptor, mounts=(shared.repository,), origin=origin))
        return layer, "mounted" if known else "uploaded"

    def _make(self, key: str, what: str, step: Step) -> Layer:
        limits = self._facility.containers
        require_engine(step.what, limits)
        self._progress.say(f"{step.what}: running it in a container")
        with finished_container(step, limits, lambda line: self._progress.say(f"{step.what}: {line}")) as container:
            made = layer_of(container, container, what, self._facility.layer_cache)
        layer = replace(made, key=key)
        self._facility.layer_cache.remember(layer)
        return layer


def _with_path(image: Image, prefix: str) -> Image:
    """Return the image with the directories for the user's own commands on its path, as repo2docker has them.

    They come before the analysis environment and after the notebook server's own commands, which stay what they are.
    """
    config: dict[str, Any] = json.loads(image.config)
    environment = dict(entry.split("=", 1) for entry in config["config"].get("Env") or ())
    own = [f"{home}/.local/bin" for home in (environment.get("HOME", "/home/jovyan"), _WORKING_DIRECTORY)]
    parts = [part for part in environment.get("PATH", "/usr/bin:/bin").split(":") if part not in own]
    at = parts.index(f"{prefix}/bin") if f"{prefix}/bin" in parts else 0
    path = ":".join([*parts[:at], *own, *parts[at:]])
    parent = Parent(image.manifest.layers, config)
    settings = ImageSettings(environment={"PATH": path})
    return make_image(parent, [], settings, image.manifest.annotations, config["architecture"])


def _registry(name: str) -> str:
    if name.startswith("oci:"):
        raise CasabinderError(
            f"steps that run in a container need a registry that the container engine can pull from, not {name}"
        )
    return name


def _fact(layer: Layer, source: Source) -> LayerFacts:
    return LayerFacts(layer.digest, layer.size, layer.what, source)


def _key(inputs: dict[str, object]) -> str:
    return sha256_digest(canonical_json({"recipe": RECIPE, "inputs": inputs}))[7:]
