"""Packages and generated files of a base become layers, and packages the lines of its inventory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from base_images.identity import describe
from builder.base import InstalledPackage
from builder.layers.layer import RECIPE
from builder.wheel_layers import inspect_wheel, make_wheel_layers, plan_wheel_layers
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from base_images.identity import Workshop
    from builder.layers.bytecode import Interpreter
    from builder.layers.cache import LayerCache
    from builder.layers.layer import Entry, Layer
    from builder.layers.wheel import InstallTarget
    from builder.locking.pylock import LockedPackage


@dataclass(frozen=True)
class LayeredPackages:
    """``packages`` have the sizes of their wheels; ``files`` are the paths that each one owns, by name."""

    layers: tuple[Layer, ...]
    packages: tuple[LockedPackage, ...]
    installed: tuple[InstalledPackage, ...]
    files: Mapping[str, tuple[str, ...]]


def layer_packages(
    packages: Sequence[LockedPackage],
    install: InstallTarget,
    budget: int,
    workshop: Workshop,
    interpreter: Callable[[], Interpreter],
) -> LayeredPackages:
    """Fetch the wheels of ``packages`` and make at most ``budget`` layers of them."""
    paths = workshop.wheelhouse.fetch(packages)
    sized = tuple(replace(package, size=paths[package.sha256].stat().st_size) for package in packages)
    planned = plan_wheel_layers(sized, install, budget)
    layers = make_wheel_layers(planned, install, workshop.wheelhouse, workshop.layers, interpreter=interpreter)
    installed, files = [], {}
    for package in sized:
        metadata, files[package.name] = inspect_wheel(paths[package.sha256], install)
        installed.append(
            InstalledPackage(
                package.name,
                package.version,
                package.filename,
                package.sha256,
                tuple(metadata.requires_dist),
                metadata.requires_python,
                package.url,
                package.size,
            )
        )
    return LayeredPackages(tuple(layers), sized, tuple(installed), files)


def small_layer(cache: LayerCache, what: str, entries: Sequence[Entry]) -> Layer:
    """Return the layer of a few generated files; its key is a hash of the entries themselves."""
    described = [describe(entry) for entry in entries]
    key = sha256_digest(canonical_json({"kind": "files", "recipe": RECIPE, "entries": described}))[7:]
    return cache.build(key, what, lambda: entries)
