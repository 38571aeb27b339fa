"""Puts what R, Julia, ``apt.txt`` and ``postBuild`` change on top of an image that was made without running anything.

The image of the plan is in the registry already, by digest. Then, bottom to top::

    base, the repository's packages     made directly
    R or Julia                          run on the base alone: the layer is the same for all who ask for this version
    apt.txt                             run on base and language: the same for all who ask for these packages
    repository, env.json                made directly
    install.R, Project.toml, ...        run on all of the above
    postBuild                           run on all of the above

All these layers are kept among the facility's shared layers: the first two under the digest of what they ran on and
what was asked for, the last two under the digest of the image they ran on. Who finds them there starts no engine. Since
mirrors move on and scripts may do anything, a layer lasts until somebody builds with ``--rebuild``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from builder.assemble import cached_facts
from builder.container.engine_layers import layer_of
from builder.container.foreign_image import foreign_facts
from builder.container.scripts import check_steps, post_build_script, what_language, what_packages
from builder.container.step import Step, StepError, finished_container, require_engine
from builder.image import Image, ImageSettings, Parent, make_image
from builder.layers.layer import RECIPE, Layer
from builder.plan import REPO_DIR
from builder.publish import Part, put_image, put_part
from builder.record import LayerFacts
from registry_sync.errors import CasabinderError
from registry_sync.manifest import Manifest, canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.container.buildpacks import EnvironmentBuildPack
    from builder.environment.spec import ContainerSteps
    from builder.events import Progress
    from builder.facility import BaseChoice, Facility
    from builder.plan import BuildPlan
    from builder.record import Source

_WORKING_DIRECTORY = f"/{REPO_DIR}"
_LANGUAGES = {"r": "R", "julia": "Julia"}
_NOTHING = ImageSettings()


@dataclass(frozen=True)
class _Own:
    """A script of the repository that runs as the user: its name, the layer's text, and what is in the layer's key."""

    name: str
    what: str
    kind: str
    script: str


def announce(steps: ContainerSteps, progress: Progress) -> None:
    """Say what an engine will run; raise :class:`CasabinderError` for steps that can't be run at all."""
    check_steps(steps)
    if steps.dockerfile:
        progress.say(f"{steps.dockerfile}: a container engine builds it as it is; nothing is taken from the base")
        return
    if steps.buildpack:
        from builder.container.buildpacks import build_pack

        build_pack(steps)  # which knows the versions of R
        progress.say(f"{what_language(steps)}: a container engine installs it, unless it did before")
    if steps.apt:
        progress.say(
            f"apt.txt: a container engine installs {', '.join(sorted(steps.apt))} as root, unless it did before"
        )
    if packages := what_packages(steps):
        progress.say(f"{packages}: a container engine installs them as the user, unless it did before")
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
    from builder.container.buildpacks import assemble_script, build_pack, build_script

    work = _Workplace(facility, repository, progress, fresh)
    pack = build_pack(steps)
    platform = planned.base.inventory.target.platform
    layers: list[tuple[Layer, Source]] = []
    image = _with_environment(image, planned.base.install_target.prefix, pack("", platform))
    below, digest = f"{_registry(choice.registry)}/{choice.repository}@{planned.base.digest}", planned.base.digest
    if steps.buildpack:
        what = what_language(steps)
        stated = {"version": steps.version, "snapshot": steps.snapshot}
        key = _key({"kind": steps.buildpack, "base": digest, **stated})
        on_base = pack(below, platform)
        step = Step(_LANGUAGES[steps.buildpack], below, "", "root")
        layers.append(work.layer(key, what, step, lambda: build_script(on_base)))
        image = inserted(image, len(planned.above), layers[-1][0])
        if steps.apt:
            base = make_image(Parent(planned.base.manifest.layers, planned.base.config), [layers[-1][0]], _NOTHING, {})
            put_image(facility.store, repository, base, [])
            below, digest = f"{_registry(facility.registry)}/{repository}@{base.digest}", base.digest
    if steps.apt:
        key = _key({"kind": "apt", "base": digest, "packages": sorted(steps.apt)})
        ((_, script),) = pack(below, platform).get_preassemble_scripts()
        step = Step("apt.txt", below, script, "root", passing=bool(steps.buildpack))
        layers.append(work.layer(key, what_apt(steps), step))
        image = inserted(image, len(planned.above), layers[-1][0])
    own = []
    if what := what_packages(steps):
        script = assemble_script(pack("", platform))
        name = ", ".join(path for path in (steps.install, steps.project) if path)
        own.append(_Own(name, what, f"{steps.buildpack} packages", script))
    if path := steps.post_build:
        own.append(_Own(path, what_post_build(steps), "postBuild", post_build_script(path)))
    for one in own:
        put_image(facility.store, repository, image, [])
        reference = f"{_registry(facility.registry)}/{repository}@{image.digest}"
        step = Step(one.name, reference, one.script, "1000:1000", _WORKING_DIRECTORY, passing=True)
        key = _key({"kind": one.kind, "image": image.digest, "path": one.name})
        layers.append(work.layer(key, one.what, step))
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
    below, on_top = _whats(steps)
    found = list(zip(on_top, layers[len(layers) - len(on_top) :], strict=True))
    del layers[len(layers) - len(on_top) :]
    at = len(layers) - len(planned.above)
    found = [*zip(below, layers[at - len(below) : at], strict=True), *found]
    del layers[at - len(below) : at]
    rest = Image(Manifest.image(image.manifest.config, layers), b"")
    told = [LayerFacts(layer.digest, layer.size, what, "cached") for what, layer in found]
    return with_steps(cached_facts(planned, rest), planned, told, steps)


def with_steps(
    facts: Sequence[LayerFacts], planned: BuildPlan, found: Sequence[LayerFacts], steps: ContainerSteps
) -> tuple[LayerFacts, ...]:
    """Return the facts of all layers in the image's order."""
    at = len(facts) - len(planned.above)
    count = len(_whats(steps)[0])
    return (*facts[:at], *found[:count], *facts[at:], *found[count:])


def _whats(steps: ContainerSteps) -> tuple[list[str], list[str]]:
    """Return the texts of the layers below the repository, and of those on top of it, bottom first."""
    below = [what_language(steps)] if steps.buildpack else []
    below += [what_apt(steps)] if steps.apt else []
    packages = what_packages(steps)
    on_top = [packages] if packages else []
    return below, [*on_top, what_post_build(steps)] if steps.post_build else on_top


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

    def layer(self, key: str, what: str, step: Step, script: Callable[[], str] | None = None) -> tuple[Layer, Source]:
        """Return the layer and where it came from; ``script`` is asked for only when it has to be run."""
        facility = self._facility
        shared = facility.shared_layers
        known = None if self._fresh else shared.lookup(key)
        layer = replace(known, what=what) if known else self._make(key, what, step, script)
        if known is None:
            put_part(facility.store, shared.repository, Part(layer.descriptor, blob=layer.blob))
            shared.record(layer)
        origin = (facility.store, shared.repository)
        put_part(facility.store, self._repository, Part(layer.descriptor, mounts=(shared.repository,), origin=origin))
        return layer, "mounted" if known else "uploaded"

    def _make(self, key: str, what: str, step: Step, script: Callable[[], str] | None) -> Layer:
        limits = self._facility.containers
        require_engine(step.what, limits)
        if script is not None:
            if limits.network == "none":
                raise StepError(
                    f"{step.what} needs the network, which this facility does not allow while an image is built"
                )
            step = replace(step, script=script())
        self._progress.say(f"{step.what}: running it in a container")
        with finished_container(step, limits, lambda line: self._progress.say(f"{step.what}: {line}")) as container:
            made = layer_of(container, container, what, self._facility.layer_cache)
        layer = replace(made, key=key)
        self._facility.layer_cache.remember(layer)
        return layer


def _with_environment(image: Image, prefix: str, pack: EnvironmentBuildPack) -> Image:
    """Return the image with what a build pack sets, and the directories for the user's own commands on its path.

    As repo2docker has them, but after the notebook server's own commands, which stay what they are; they come before
    the analysis environment.
    """
    from builder.container.buildpacks import run_environment

    config: dict[str, Any] = json.loads(image.config)
    environment = dict(entry.split("=", 1) for entry in config["config"].get("Env") or ())
    added = run_environment(pack, environment)
    own = [f"{home}/.local/bin" for home in (environment.get("HOME", "/home/jovyan"), _WORKING_DIRECTORY)]
    path = added.get("PATH") or environment.get("PATH", "/usr/bin:/bin")
    parts = [part for part in path.split(":") if part not in own]
    at = parts.index(f"{prefix}/bin") if f"{prefix}/bin" in parts else 0
    path = ":".join([*parts[:at], *own, *parts[at:]])
    parent = Parent(image.manifest.layers, config)
    settings = ImageSettings(environment={**added, "PATH": path})
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
