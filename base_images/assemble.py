"""Makes a base image: definition -> locks with addresses -> layers -> image -> registry, with its inventory.

No container engine takes part. Layers go from most to least shared::

    Debian rootfs            (or the layers of the image that the definition starts from)
    site certificates        (only where the site has any)
    server environment       /srv/jupyter: its skeleton, big wheels alone, the others together
    analysis environment     /srv/env: the same
    casabinder's own files   entry point, kernel specification, the runtime package in both environments
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from base_images import image_files
from base_images.definition import ASSEMBLY, Definition, Pin, write_lock
from base_images.identity import Workshop, base_identity, base_repository, describe
from base_images.interpreter import take_interpreter
from base_images.rootfs import build_rootfs
from base_images.runtime_wheel import build_runtime_wheel
from base_images.starting_image import read_start
from base_images.upgrade import Upgrade, preferences, same_wheels
from builder.base import InstalledEnvironment, InstalledPackage, Inventory, attach_inventory
from builder.image import Image, ImageSettings, Parent, make_image
from builder.layers.bytecode import Interpreter, identity
from builder.layers.layer import RECIPE, Entry, Layer
from builder.layers.skeleton import environment_entries
from builder.layers.wheel import InstallTarget
from builder.locking.pylock import LockedPackage, LockError, read_pylock, write_pylock
from builder.locking.resolver import resolve
from builder.publish import Part, put_image, put_parts
from builder.target import PythonTarget
from builder.wheel_layers import inspect_wheel, make_wheel_layers, plan_wheel_layers
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from builder.layers.cache import LayerCache
    from registry_sync.store import Store

PREFIXES = {"server": image_files.SERVER_PREFIX, "analysis": image_files.ANALYSIS_PREFIX}
LAYER_BUDGETS = {"server": 12, "analysis": 28}
CHANNEL = "current"
KEEP = Upgrade()

Say = Callable[[str], None]


@dataclass(frozen=True)
class BaseRecord:
    """What `casabinder base build` made or found."""

    name: str
    reference: str
    digest: str
    identity: str
    cached: bool
    layers: int = 0
    bytes: int = 0


def lock_base(
    definition: Definition, workshop: Workshop, upgrade: Upgrade = KEEP, *, write: bool = True
) -> dict[str, list[LockedPackage]]:
    """Resolve a definition's requirements and write its committed locks; return them by environment.

    Pins that the requirements still allow stay as they are, but for those that ``upgrade`` gives up. The locks are
    written when all are resolved, or not at all.
    """
    target = stated_target(definition)
    locks = {}
    for name, requirements in definition.requirements.items():
        file, kept = f"{name}.in", upgrade.kept(definition.locks[name])
        lines = "\n".join(requirements) + "\n"
        text = resolve([(file, lines)], target, workshop.index, preferences=preferences(kept))
        locks[name] = read_pylock(text, target, file, same_wheels(text, kept, file))
    for name, packages in locks.items() if write else ():
        write_lock(definition.directory, name, [Pin(p.name, p.version, p.sha256) for p in packages])
    return locks


def build_base(
    definition: Definition,
    workshop: Workshop,
    store: Store,
    registry: str,
    prefix: str,
    *,
    refresh: bool = False,
    say: Say = lambda _: None,
) -> BaseRecord:
    """Make the base of ``definition`` and push it, unless the store has it already.

    ``refresh`` fetches Debian anew and builds even if the base is there. The image gets three tags: its identity, which
    a refresh moves; the identity with 8 digits of the digest, which never moves; and :data:`CHANNEL`, which names the
    newest. Raises :class:`CasabinderError`.
    """
    identity = base_identity(definition, workshop)
    repository = base_repository(prefix, definition.name)
    reference = f"{registry}/{repository}:{identity}"
    there = store.head_manifest(repository, identity)
    if there is not None and not refresh:
        return BaseRecord(definition.name, reference, there.digest, identity, cached=True)
    for name, pins in definition.locks.items():
        if not pins:
            raise CasabinderError(
                f"{definition.directory / name}.lock is missing: run `casabinder base lock {definition.name}`"
            )

    with ExitStack() as stores:
        begun = _begin(definition, workshop, stores, refresh=refresh, say=say)
        image = _build(definition, workshop, store, repository, begun, say)
    put_image(store, repository, image, (f"{identity}-{image.digest[7:15]}", identity, CHANNEL))
    size = sum(layer.size for layer in image.manifest.layers)
    return BaseRecord(
        definition.name, reference, image.digest, identity, cached=False, layers=len(image.manifest.layers), bytes=size
    )


def _build(
    definition: Definition, workshop: Workshop, store: Store, repository: str, begun: _Beginning, say: Say
) -> Image:
    """Make the layers above the beginning, push all, attach the inventory; tags are the caller's."""
    target = begun.target
    certificates = workshop.certificate_texts()
    own: list[Entry] = list(image_files.user_entries(begun.texts["etc/passwd"], begun.texts["etc/group"]))
    layers: list[Layer] = list(begun.layers)
    if certificates:
        entries = image_files.certificate_entries(begun.texts[image_files.CERTIFICATES], certificates)
        layers.append(_small_layer(workshop.layers, "site certificates", entries))

    runtime, runtime_path = build_runtime_wheel(workshop.cache / "wheels")
    bytecode = identity(target.python_full) if begun.python else ""
    environments: dict[str, InstalledEnvironment] = {}
    files: dict[str, tuple[str, ...]] = {}
    pylocks: dict[str, str] = {}
    tail: list[Layer] = []
    for name, install_prefix in PREFIXES.items():
        say(f"layering the {name} environment: {len(definition.locks[name])} packages")
        install = InstallTarget(install_prefix, target.python, bytecode)
        packages = _locked(definition, name, target, workshop)
        paths = workshop.wheelhouse.fetch(packages)
        packages = [replace(package, size=paths[package.sha256].stat().st_size) for package in packages]
        pylocks[name] = write_pylock(packages, target)
        skeleton = environment_entries(install, target, begun.interpreter)
        layers.append(_small_layer(workshop.layers, f"{install_prefix}: environment", skeleton))
        planned = plan_wheel_layers(packages, install, LAYER_BUDGETS[name])
        layers += make_wheel_layers(
            planned, install, workshop.wheelhouse, workshop.layers, interpreter=partial(_unpacked, begun, workshop)
        )
        tail += make_wheel_layers(
            plan_wheel_layers([runtime], install, 1),
            install,
            workshop.wheelhouse,
            workshop.layers,
            interpreter=partial(_unpacked, begun, workshop),
        )
        installed = []
        for package in (*packages, runtime):
            path = runtime_path if package is runtime else paths[package.sha256]
            metadata, owned = inspect_wheel(path, install)
            installed.append(_installed(package, metadata.requires_dist, metadata.requires_python))
            if name == "analysis":
                files[package.name] = owned
        environments[name] = InstalledEnvironment(
            install_prefix, definition.requirements[name], tuple(sorted(installed, key=lambda package: package.name))
        )
    own += image_files.own_entries()
    layers += [*tail, _small_layer(workshop.layers, "casabinder's own files", own)]

    image = make_image(
        begun.parent, layers, _settings(definition), {"org.opencontainers.image.title": definition.document.title}
    )
    say(f"pushing {len(image.manifest.layers)} layers")
    put_parts(store, repository, [*begun.origins, *(Part(layer.descriptor, blob=layer.blob) for layer in layers)])
    put_image(store, repository, image, ())
    inventory = Inventory(
        name=definition.name,
        target=target,
        analysis=environments["analysis"],
        server=environments["server"],
        protected=definition.document.protected,
        system_packages=begun.packages,
        bytecode=bytecode,
    )
    attach_inventory(store, repository, image.manifest, inventory, files, pylocks, begun.python, ASSEMBLY)
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
    directory = workshop.cache / "interpreters" / identity(begun.target.python_full)
    return Interpreter.unpack(begun.python, begun.target.python, directory)


def _begin(definition: Definition, workshop: Workshop, stores: ExitStack, *, refresh: bool, say: Say) -> _Beginning:
    document = definition.document
    if document.rootfs is not None:
        say(f"making the root file system: Debian {document.rootfs.suite}")
        rootfs = build_rootfs(document.rootfs, workshop.layers, workshop.cache / "rootfs", refresh=refresh)
        full = rootfs.version(f"python{document.python}")
        target = PythonTarget(document.python, full, _glibc(rootfs.version("libc6")), document.machine)
        interpreter = f"/usr/bin/python{document.python}"
        if rootfs.layer.blob is None:
            raise CasabinderError("the root file system is not in the cache any more; build the base with --refresh")
        python = take_interpreter(rootfs.layer.blob, document.python)
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


def stated_target(definition: Definition) -> PythonTarget:
    """Return the target as far as the definition tells; for a Debian suite, what that release has at least."""
    document = definition.document
    if document.start is not None:
        return PythonTarget(document.python, document.start.python_full, document.start.glibc, document.machine)
    suite = document.rootfs.suite if document.rootfs is not None else ""
    facts = {"bookworm": ("3.11.2", "2.36"), "trixie": ("3.13.5", "2.41")}
    if suite not in facts:
        raise CasabinderError(f"{definition.directory / 'base.yaml'}: the Debian suite {suite!r} is not known here")
    full, glibc = facts[suite]
    return PythonTarget(document.python, full, glibc, document.machine)


def _glibc(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _locked(definition: Definition, name: str, target: PythonTarget, workshop: Workshop) -> list[LockedPackage]:
    """Find where the wheels of a committed lock are today, and insist on the very ones it names."""
    pins = definition.locks[name]
    file = f"{name}.lock"
    lines = "".join(f"{pin.name}=={pin.version}\n" for pin in pins)
    text = resolve([(file, lines)], target, workshop.index, dependencies=False)
    packages = read_pylock(text, target, file, {pin.name: pin.sha256 for pin in pins})
    if len(packages) != len(pins):
        raise LockError(f"{definition.directory / file} names {len(pins)} packages, and the index gave {len(packages)}")
    return packages


def _installed(package: LockedPackage, requires: Sequence[str], requires_python: str) -> InstalledPackage:
    return InstalledPackage(
        package.name,
        package.version,
        package.filename,
        package.sha256,
        tuple(requires),
        requires_python,
        package.url,
        package.size,
    )


def _settings(definition: Definition) -> ImageSettings:
    return ImageSettings(
        environment=image_files.environment(definition.document.environment),
        labels={"org.casabinder.base": definition.name},
        entrypoint=("/usr/bin/tini", "-g", "--", "/usr/local/bin/casabinder-entrypoint"),
        command=("jupyter-lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"),
        working_directory=image_files.REPO_DIR,
        user="1000:1000",
        # No port is exposed: HTCondor tells a job no forwarded port if there is one that is not (docker-api.cpp).
    )


def _small_layer(cache: LayerCache, what: str, entries: Sequence[Entry]) -> Layer:
    """Return the layer of a few generated files; its key is a hash of the entries themselves."""
    described = [describe(entry) for entry in entries]
    key = sha256_digest(canonical_json({"kind": "files", "recipe": RECIPE, "entries": described}))[7:]
    return cache.build(key, what, lambda: entries)
