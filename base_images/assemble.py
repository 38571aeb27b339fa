"""Makes a base image: definition -> locks with addresses -> layers -> image -> registry, with its inventory.

No container engine takes part. Layers go from most to least shared::

    Debian rootfs            (or the layers of the image that the definition starts from)
    server environment       /srv/jupyter: its skeleton, big wheels alone, the others together
    analysis environment     /srv/env: the same
    casabinder's own files   entry point, kernel specification, the runtime package in both environments

What is on top of these, :mod:`base_images.extend` makes, one image after the other: what definitions add that extend
this one, and what the site adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from base_images import image_files
from base_images.definition import ASSEMBLY, Definition
from base_images.extend import extend
from base_images.identity import Stage, Workshop, base_repository, stages_of
from base_images.interpreter import take_interpreter
from base_images.layering import layer_packages, small_layer
from base_images.locking import locked_packages, stated_target
from base_images.rootfs import build_rootfs
from base_images.runtime_wheel import build_runtime_wheel
from base_images.starting_image import read_start
from builder.assemble import BASE_DIGEST
from builder.base import Base, InstalledEnvironment, Inventory, attach_inventory, load_base
from builder.image import Image, ImageSettings, Parent, make_image
from builder.layers.bytecode import Interpreter
from builder.layers.bytecode import identity as bytecode_identity
from builder.layers.skeleton import environment_entries
from builder.layers.wheel import InstallTarget
from builder.locking.pylock import write_pylock
from builder.publish import Part, put_image, put_parts
from builder.target import PythonTarget
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from builder.layers.layer import Layer
    from registry_sync.manifest import Descriptor
    from registry_sync.store import Store

PREFIXES = {"server": image_files.SERVER_PREFIX, "analysis": image_files.ANALYSIS_PREFIX}
LAYER_BUDGETS = {"server": 12, "analysis": 28}
CHANNEL = "current"

Say = Callable[[str], None]


@dataclass(frozen=True)
class BaseRecord:
    """What `casabinder base build` made or found.

    ``accepted`` are repository, digest and tag of what builds take from now on: of the image, and of those below it
    that were made for it.
    """

    name: str
    reference: str
    digest: str
    identity: str
    cached: bool
    layers: int = 0
    bytes: int = 0
    accepted: tuple[tuple[str, str, str], ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return what people are told of it as a JSON object."""
        document = asdict(self)
        del document["accepted"]
        return document


def build_base(
    definition: Definition,
    workshop: Workshop,
    store: Store,
    registry: str,
    prefix: str,
    *,
    refresh: bool = False,
    on_trial: bool = False,
    say: Say = lambda _: None,
) -> BaseRecord:
    """Make the base of ``definition`` and push it, unless the store has it already; what it extends is made first.

    ``refresh`` fetches Debian anew and builds even if the base is there. The image gets three tags: its identity, which
    a refresh moves; the identity with 8 digits of the digest, which never moves; and :data:`CHANNEL`, which names the
    newest. ``on_trial`` it gets only the one that never moves: the others are the caller's to set with
    :func:`accept_base`. Raises :class:`CasabinderError`.
    """
    stages = stages_of(definition, workshop)
    top = stages[-1]
    repository = base_repository(prefix, top.name)
    record = BaseRecord(top.name, f"{registry}/{repository}:{top.identity}", "", top.identity, cached=True)
    there = None if refresh else _standing(stages, store, prefix)
    if there is not None:
        return replace(record, digest=there.digest, accepted=((repository, there.digest, CHANNEL),))
    _check_locks(stages)
    maker = _Maker(workshop, store, registry, prefix, refresh, say, [])
    base = maker.up_to(stages)
    layers = base.manifest.layers
    record = replace(
        record,
        digest=base.digest,
        cached=False,
        layers=len(layers),
        bytes=sum(layer.size for layer in layers),
        accepted=tuple(maker.moving),
    )
    if not on_trial:
        accept_base(record, store)
    return record


def accept_base(record: BaseRecord, store: Store) -> None:
    """Set the tags that move: builds without a channel take the base, and what was made for it, from now on."""
    for repository, digest, tag in record.accepted:
        store.put_manifest(repository, tag, store.get_manifest(repository, digest))


def _standing(stages: Sequence[Stage], store: Store, prefix: str) -> Descriptor | None:
    """Return the topmost image if it is there and nothing below it was made anew since."""
    images = [store.head_manifest(base_repository(prefix, stage.name), stage.identity) for stage in stages]
    for below, stage, image in zip(images, stages[1:], images[1:], strict=False):
        if below and image and not _is_on(store, base_repository(prefix, stage.name), stage, below.digest):
            return None
    return images[-1]


def _is_on(store: Store, repository: str, stage: Stage, below: str) -> bool:
    return store.get_manifest(repository, stage.identity).annotations.get(BASE_DIGEST) == below


def _check_locks(stages: Sequence[Stage]) -> None:
    for stage in stages:
        definition, addition = stage.definition, stage.addition
        asked = addition.requirements if addition else definition.requirements
        files = addition.lock_files if addition else {name: definition.lock_file(name) for name in asked}
        command = addition.lock_command if addition else f"casabinder base lock {definition.name}"
        for name, lines in asked.items():
            if (lines or addition is None) and not files[name].exists():
                raise CasabinderError(f"{files[name]} is missing: run `{command}`")


@dataclass(frozen=True)
class _Maker:
    """Makes the stages of a base, where they are not there."""

    workshop: Workshop
    store: Store
    registry: str
    prefix: str
    refresh: bool
    say: Say
    moving: list[tuple[str, str, str]]
    """Repository, digest and tag of what is to be set when all are made."""

    def up_to(self, stages: Sequence[Stage]) -> Base:
        """Return the topmost image of ``stages``, after making those that are not there, the lowest first."""
        stage, store = stages[-1], self.store
        repository, tag = base_repository(self.prefix, stage.name), stage.identity
        below = self.up_to(stages[:-1]) if len(stages) > 1 else None
        there = not self.refresh and store.head_manifest(repository, tag) is not None
        if not there or (below is not None and not _is_on(store, repository, stage, below.digest)):
            image = self._made(stage, below, repository)
            self.moving.append((repository, image.digest, stage.identity))
            if stage.final:
                self.moving.append((repository, image.digest, CHANNEL))
            tag = f"{stage.identity}-{image.digest[7:15]}"
            put_image(store, repository, image, (tag,))
        return load_base(store, self.registry, repository, tag, self.workshop.cache)

    def _made(self, stage: Stage, below: Base | None, repository: str) -> Image:
        if below is not None and stage.addition is not None:
            return extend(below, stage.addition, self.workshop, self.store, repository, self.say)
        with ExitStack() as stores:
            begun = _begin(stage.definition, self.workshop, stores, refresh=self.refresh, say=self.say)
            return _build(stage.definition, self.workshop, self.store, repository, begun, self.say)


def _build(
    definition: Definition, workshop: Workshop, store: Store, repository: str, begun: _Beginning, say: Say
) -> Image:
    """Make the layers above the beginning, push all, attach the inventory; tags are the caller's."""
    target = begun.target
    layers: list[Layer] = list(begun.layers)
    runtime, _ = build_runtime_wheel(workshop.cache / "wheels")
    bytecode = bytecode_identity(target.python_full) if begun.python else ""
    interpreter = partial(_unpacked, begun, workshop)
    environments: dict[str, InstalledEnvironment] = {}
    files: dict[str, tuple[str, ...]] = {}
    pylocks: dict[str, str] = {}
    tail: list[Layer] = []
    for name, install_prefix in PREFIXES.items():
        say(f"layering the {name} environment: {len(definition.locks[name])} packages")
        install = InstallTarget(install_prefix, target.python, bytecode)
        packages = locked_packages(definition.locks[name], definition.lock_file(name), target, workshop)
        skeleton = environment_entries(install, target, begun.interpreter)
        layers.append(small_layer(workshop.layers, f"{install_prefix}: environment", skeleton))
        layered = layer_packages(packages, install, LAYER_BUDGETS[name], workshop, interpreter)
        own = layer_packages([runtime], install, 1, workshop, interpreter)
        layers += layered.layers
        tail += own.layers
        pylocks[name] = write_pylock(layered.packages, target)
        installed = sorted((*layered.installed, *own.installed), key=lambda package: package.name)
        environments[name] = InstalledEnvironment(install_prefix, definition.requirements[name], tuple(installed))
        if name == "analysis":
            files = {**layered.files, **own.files}
    entries = [*image_files.user_entries(begun.texts["etc/passwd"], begun.texts["etc/group"])]
    layers += [*tail, small_layer(workshop.layers, "casabinder's own files", [*entries, *image_files.own_entries()])]

    document = definition.document
    notes = {
        "org.opencontainers.image.title": document.title,
        **image_files.rules_annotation(document.protected, document.optional),
    }
    image = make_image(begun.parent, layers, _settings(definition), notes)
    say(f"pushing {len(image.manifest.layers)} layers")
    put_parts(store, repository, [*begun.origins, *(Part(layer.descriptor, blob=layer.blob) for layer in layers)])
    put_image(store, repository, image, ())
    inventory = Inventory(
        name=definition.name,
        target=target,
        analysis=environments["analysis"],
        server=environments["server"],
        protected=document.protected,
        optional=document.optional,
        system_packages=begun.packages,
        bytecode=bytecode,
    )
    certificates = begun.texts[image_files.CERTIFICATES]
    attach_inventory(
        store, repository, image.manifest, inventory, files, pylocks, begun.python, certificates, generation=ASSEMBLY
    )
    return image


@dataclass(frozen=True)
class _Beginning:
    """The bottom of the image: a rootfs (``layers``) or the layers of another image (``parent``, ``origins``).

    ``texts`` are files in it that layers above may need to change; ``packages`` its Debian packages, where known;
    ``python`` the archive of the interpreter that makes bytecode: another image's cannot be taken out without pulling
    it, so bases that start from one have no bytecode.
    """

    parent: Parent
    layers: tuple[Layer, ...]
    origins: tuple[Part, ...]
    interpreter: str
    target: PythonTarget
    packages: tuple[str, ...]
    texts: Mapping[str, str]
    python: bytes = b""


def _unpacked(begun: _Beginning, workshop: Workshop) -> Interpreter:
    directory = workshop.cache / "interpreters" / bytecode_identity(begun.target.python_full)
    return Interpreter.unpack(begun.python, begun.target.python, directory)


def _begin(definition: Definition, workshop: Workshop, stores: ExitStack, *, refresh: bool, say: Say) -> _Beginning:
    document = definition.document
    if document.rootfs is not None:
        say(f"making the root file system: Debian {document.rootfs.suite}")
        rootfs = build_rootfs(document.rootfs, workshop.layers, workshop.cache / "rootfs", refresh=refresh)
        full = rootfs.version(f"python{definition.python}")
        target = PythonTarget(definition.python, full, _glibc(rootfs.version("libc6")), document.machine)
        interpreter = f"/usr/bin/python{definition.python}"
        if rootfs.layer.blob is None:
            raise CasabinderError("the root file system is not in the cache any more; build the base with --refresh")
        python = take_interpreter(rootfs.layer.blob, definition.python)
        return _Beginning(Parent(), (rootfs.layer,), (), interpreter, target, rootfs.packages, rootfs.texts, python)
    if document.start is None:
        raise CasabinderError(f"{definition.directory}: the definition begins with nothing")
    say(f"starting from {document.start.image}")
    start = read_start(document.start.image, workshop.index.ca_bundle)
    stores.callback(start.store.close)
    origins = tuple(Part(layer, origin=(start.store, start.repository)) for layer in start.manifest.layers)
    return _Beginning(
        Parent(start.manifest.layers, start.config),
        (),
        origins,
        document.start.interpreter,
        stated_target(definition),
        (),
        start.texts,
    )


def _glibc(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _settings(definition: Definition) -> ImageSettings:
    return ImageSettings(
        environment=image_files.environment(definition.document.environment),
        labels=definition.document.image_labels,
        entrypoint=("/usr/bin/tini", "-g", "--", "/usr/local/bin/casabinder-entrypoint"),
        command=("jupyter-lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"),
        working_directory=image_files.REPO_DIR,
        user="1000:1000",
        # No port is exposed: HTCondor tells a job no forwarded port if there is one that is not (docker-api.cpp).
    )
