"""A base image of a few kilobytes: real layers of small wheels, with an inventory, in any store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.base import Base, InstalledEnvironment, InstalledPackage, Inventory, attach_inventory, load_base
from builder.image import ImageSettings, Parent, make_image
from builder.layers.cache import LayerCache
from builder.layers.layer import Entry
from builder.layers.wheel import InstallTarget
from builder.publish import Part, put_image, put_parts
from builder.target import PythonTarget
from builder.wheel_layers import inspect_wheel, make_wheel_layers, plan_wheel_layers
from builder.wheelhouse import Wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from registry_sync.store import Store
    from tests.testbed.packages import BuiltWheel

TARGET = PythonTarget("3.13", "3.13.5", "2.41")
REPOSITORY = "bases/tiny"


def tiny_base(
    store: Store,
    wheels: Iterable[BuiltWheel],
    scratch: Path,
    *,
    requirements: tuple[str, ...] = (),
    protected: tuple[str, ...] = (),
    repository: str = REPOSITORY,
    registry: str = "registry.test",
    index_url: str = "",
    root: Sequence[Entry] = (),
    labels: Mapping[str, str] | None = None,
) -> Base:
    """Put a base with ``wheels`` in its analysis environment under the tag ``current`` and load it.

    ``requirements`` are its top-level ones; ``index_url`` (``http://HOST/simple``) is where the wheels come from.
    ``root`` are further files of its root file system, ``labels`` those of the image.
    """
    install = InstallTarget("/srv/env", TARGET.python)
    wheelhouse, cache = Wheelhouse(scratch / "wheels"), LayerCache(scratch / "layers")
    packages = []
    for wheel in wheels:
        package = wheel.locked(f"{index_url.removesuffix('/simple')}/files/{wheel.filename}" if index_url else "")
        path = wheelhouse.path(package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wheel.content)
        packages.append((package, wheel))
    release = Entry("etc/os-release", "file", b"ID=tiny\n")
    bottom = cache.build("0" * 64, "root file system", lambda: [release, *root])
    planned = plan_wheel_layers([package for package, _ in packages], install, 1)
    layers = [bottom, *make_wheel_layers(planned, install, wheelhouse, cache)]
    settings = ImageSettings({"PATH": "/srv/env/bin:/bin"}, labels or {}, command=("jupyter-lab",), user="1000:1000")
    image = make_image(Parent(), layers, settings, {})
    put_parts(store, repository, [Part(layer.descriptor, blob=layer.blob) for layer in layers])
    put_image(store, repository, image, ["current"])
    installed = tuple(
        InstalledPackage(
            package.name,
            package.version,
            package.filename,
            package.sha256,
            wheel.requires,
            wheel.requires_python,
            package.url,
            package.size,
        )
        for package, wheel in sorted(packages, key=lambda pair: pair[0].name)
    )
    files = {package.name: inspect_wheel(wheelhouse.path(package), install)[1] for package, _ in packages}
    inventory = Inventory(
        name="tiny",
        target=TARGET,
        analysis=InstalledEnvironment("/srv/env", requirements, installed),
        server=InstalledEnvironment("/srv/jupyter", (), ()),
        protected=protected,
    )
    attach_inventory(store, repository, image.manifest, inventory, files, {})
    return load_base(store, registry, repository, "current", scratch / "base-cache")
