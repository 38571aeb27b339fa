"""Puts what an addition brings on top of a base: layers, settings, and an inventory of both together.

All that is needed of the base is its manifest and its inventory in the registry, as for the image of a repository. Its
layers are taken as they are, digest for digest.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from base_images import image_files
from base_images.definition import ASSEMBLY
from base_images.layering import LayeredPackages, layer_packages, small_layer
from base_images.locking import locked_packages
from builder.assemble import BASE_DIGEST
from builder.base import InstalledEnvironment, attach_inventory
from builder.image import Image, ImageSettings, Parent, make_image
from builder.layers.wheel import InstallTarget
from builder.locking.closure import admits, applies, breaches
from builder.locking.pylock import LockError, write_pylock
from builder.publish import Part, put_image, put_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from base_images.addition import Addition
    from base_images.identity import Workshop
    from builder.base import Base
    from registry_sync.store import Store

BUDGETS = {"server": 4, "analysis": 16}
"""How many layers the packages that are added to an environment may have."""


def extend(
    base: Base, addition: Addition, workshop: Workshop, store: Store, repository: str, say: Callable[[str], None]
) -> Image:
    """Make the image of ``addition`` on ``base``, push it without a tag and attach its inventory.

    Raises :class:`LockError` if a lock does not fit the base.
    """
    target = base.inventory.target
    environments = {"server": base.inventory.server, "analysis": base.inventory.analysis}
    added = {name: _layered(name, environments[name], base, addition, workshop, say) for name in addition.locks}
    for name, packages in added.items():
        environments[name] = _together(environments[name], addition.requirements[name], packages)
        _check(name, environments[name], packages, base, addition)
    layers = [layer for packages in added.values() for layer in packages.layers]
    entries, certificates = list(addition.files), base.certificates
    if addition.certificates:
        entries += image_files.certificate_entries(certificates, addition.certificates)
        certificates = image_files.trusted(certificates, addition.certificates)
    if entries:
        layers.append(small_layer(workshop.layers, f"files that are added to {base.inventory.name}", entries))

    protected = tuple(dict.fromkeys((*base.inventory.protected, *addition.protected)))
    optional = tuple(dict.fromkeys((*base.inventory.optional, *addition.optional)))
    notes = {
        "org.opencontainers.image.title": addition.title,
        BASE_DIGEST: base.digest,
        **image_files.rules_annotation(protected, optional),
    }
    settings = ImageSettings(environment=addition.environment, labels=addition.labels)
    image = make_image(Parent(base.manifest.layers, base.config), layers, settings, notes)
    say(f"pushing {len(layers)} layers on top of the {len(base.manifest.layers)} of {base.inventory.name}")
    below = [Part(layer, mounts=(base.repository,)) for layer in base.manifest.layers]
    put_parts(store, repository, [*below, *(Part(layer.descriptor, blob=layer.blob) for layer in layers)])
    put_image(store, repository, image, ())
    inventory = replace(
        base.inventory,
        name=addition.name,
        server=environments["server"],
        analysis=environments["analysis"],
        protected=protected,
        optional=optional,
    )
    files = {**base.files, **(added["analysis"].files if "analysis" in added else {})}
    pylocks = {
        name: write_pylock([one.locked for one in environment.packages if one.url], target)
        for name, environment in environments.items()
    }
    archive = base.interpreter_archive
    attach_inventory(
        store, repository, image.manifest, inventory, files, pylocks, archive, certificates, generation=ASSEMBLY
    )
    return image


def _layered(
    name: str,
    there: InstalledEnvironment,
    base: Base,
    addition: Addition,
    workshop: Workshop,
    say: Callable[[str], None],
) -> LayeredPackages:
    """Make the layers of the packages that are added to one environment."""
    pins, target = addition.locks[name], base.inventory.target
    again = [pin.name for pin in pins if pin.name in there.by_name]
    if again:
        raise _stale(name, base, addition, f"it has {again[0]}, which {base.inventory.name} has itself")
    if pins:
        say(f"layering {len(pins)} more packages of the {name} environment")
    packages = locked_packages(pins, addition.lock_files[name], target, workshop)
    install = InstallTarget(there.prefix, target.python, base.inventory.bytecode)
    return layer_packages(packages, install, BUDGETS[name], workshop, partial(base.interpreter, workshop.cache))


def _together(
    there: InstalledEnvironment, requirements: tuple[str, ...], added: LayeredPackages
) -> InstalledEnvironment:
    packages = sorted((*there.packages, *added.installed), key=lambda package: package.name)
    return InstalledEnvironment(there.prefix, (*there.requirements, *requirements), tuple(packages))


def _check(
    name: str, environment: InstalledEnvironment, added: LayeredPackages, base: Base, addition: Addition
) -> None:
    """Refuse a lock that was made for other versions of the base, or for other requirements."""
    target = base.inventory.target
    asked = [Requirement(line) for line in addition.requirements[name]]
    for requirement in asked:
        there = environment.by_name.get(canonicalize_name(requirement.name))
        if applies(requirement, target) and (there is None or not admits(requirement, there.version)):
            found = f"{there.name} {there.version} is there" if there else "it is not there"
            raise _stale(name, base, addition, f"{requirement} is asked for, and {found}")
    for breach in breaches(environment.by_name, target, asked):
        if breach.package.name in added.files:
            raise _stale(name, base, addition, str(breach))


def _stale(name: str, base: Base, addition: Addition, reason: str) -> LockError:
    return LockError(
        f"{addition.lock_files[name]} was not made for {base.inventory.name} as it is now: {reason}; run "
        f"`{addition.lock_command}`"
    )
