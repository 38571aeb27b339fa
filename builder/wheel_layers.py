"""Locked packages become layers: which wheels share one (plan), then the layers themselves (make).

Planning needs names, hashes and sizes only, so a layer that anybody of the facility has made before is found by its key
and neither its wheels nor its bytes are fetched.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from builder.layers.bytecode import bytecode_path
from builder.layers.errors import LayerError
from builder.layers.grouping import WheelSize, group, group_key, merge_entries
from builder.layers.wheel import InstallTarget, layer_key, metadata, open_wheel, wheel_entries
from builder.locking.closure import python_fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from builder.layers.bytecode import Interpreter
    from builder.layers.cache import LayerCache
    from builder.layers.layer import Compression, Entry, Layer
    from builder.layers.wheel import WheelMetadata
    from builder.locking.pylock import LockedPackage
    from builder.wheelhouse import Wheelhouse

_WORKERS = 4


@dataclass(frozen=True)
class PlannedLayer:
    """A layer to be: its key, a text for people, and the packages whose wheels are in it, by name."""

    key: str
    what: str
    packages: tuple[LockedPackage, ...]


def plan_wheel_layers(packages: Sequence[LockedPackage], target: InstallTarget, budget: int) -> list[PlannedLayer]:
    """Group packages (whose ``size`` must be known) into at most ``budget`` layers, biggest wheels first."""
    if not packages:
        return []
    by_name = {package.name: package for package in packages}
    planned = []
    for members in group([WheelSize(p.name, p.size, layer_key(p.sha256, target)) for p in packages], budget):
        chosen = tuple(by_name[member.name] for member in members)
        what = str(chosen[0]) if len(chosen) == 1 else f"{len(chosen)} packages: {', '.join(map(str, chosen))}"
        planned.append(PlannedLayer(group_key(members), what, chosen))
    return planned


def make_wheel_layers(
    planned: Iterable[PlannedLayer],
    target: InstallTarget,
    wheelhouse: Wheelhouse,
    cache: LayerCache,
    *,
    downloaded: Callable[[int], None] = lambda _: None,
    made: Callable[[Layer], None] = lambda _: None,
    interpreter: Callable[[], Interpreter] | None = None,
    compression: Compression = "gzip",
    written_to: Callable[[Path, int], None] | None = None,
) -> list[Layer]:
    """Return the layers in the order of ``planned``, each with its blob in ``cache``.

    Layers are made in parallel as their wheels arrive. ``downloaded`` counts bytes, ``made`` is told of each layer.
    ``interpreter`` is asked for when a layer has to be made whose target wants bytecode.
    """

    def make(plan: PlannedLayer) -> Layer:
        known = cache.get(plan.key)
        if known is None or known.blob is None:
            paths = wheelhouse.fetch(plan.packages, downloaded)
            entries = partial(_entries, plan, target, paths, interpreter)
            known = cache.build(plan.key, plan.what, entries, compression, written_to)
        layer = replace(known, what=plan.what)
        made(layer)
        return layer

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(make, planned))


def _entries(
    plan: PlannedLayer,
    target: InstallTarget,
    paths: Mapping[str, Path],
    interpreter: Callable[[], Interpreter] | None,
) -> list[Entry]:
    with ExitStack() as stack:
        wheels = [(p.name, stack.enter_context(open_wheel(paths[p.sha256]))) for p in plan.packages]
        for package, (_, wheel) in zip(plan.packages, wheels, strict=True):
            _check_python(package, metadata(wheel).requires_python, target.python)
        entries = merge_entries((name, wheel_entries(wheel, target)) for name, wheel in wheels)
    if not target.bytecode:
        return entries
    if interpreter is None:
        raise LayerError("the base promises bytecode and carries no interpreter; build the base again")
    return [*entries, *interpreter().bytecode(entries, target.purelib)]


def _check_python(package: LockedPackage, requires: str, python: str) -> None:
    """Refuse a wheel that is for no release of this Python: uv takes no notice of upper limits, unlike pip."""
    if not python_fits(requires, python):
        raise LayerError(
            f"{package} is for Python {requires}, and the image has {python}; choose another version of "
            f"{package.name}, or another base with --base"
        )


def inspect_wheel(path: Path, target: InstallTarget) -> tuple[WheelMetadata, tuple[str, ...]]:
    """Return a wheel's metadata and the paths it owns in the image; where there is bytecode, its paths, too."""
    with open_wheel(path) as wheel:
        entries = wheel_entries(wheel, target)
        cached = [bytecode_path(entry, target.purelib, target.python) for entry in entries if target.bytecode]
        return metadata(wheel), (*(entry.path for entry in entries), *filter(None, cached))
