"""Makes an image again from what is stored with it, to see that the same bytes come out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builder.assemble import make_layers, make_planned_image
from builder.base import load_base
from builder.environment.detect import detect
from builder.events import Phases, Reporter, silent
from builder.layers.cache import LayerCache
from builder.lock import Lock, compare
from builder.plan import plan
from builder.pylock import read_pylock
from builder.record import read_lock, read_records
from builder.repository import RepoSpec, checkout, resolve_ref
from registry_sync.reference import ImageReference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.base import Base
    from builder.facility import Facility
    from builder.pylock import LockedPackage


def verify(image: str, facility: Facility, scratch: Path, report: Reporter = silent) -> tuple[str, str]:
    """Make an image again from its own lock, base and commit, with every layer written anew below ``scratch``.

    Returns the digest that the registry has and the digest that came out; they are equal for a reproducible image.
    Raises :class:`CasabinderError` when the image is not one of ours or its repository can't be had any more.
    """
    reference = ImageReference.parse(image)
    there = facility.store.get_manifest(reference.repository, reference.reference)
    record = read_records(facility.store, reference.repository, there.digest)[0]
    phases = Phases(report)
    with phases.phase("fetch", f"fetching {record.repo} at {record.commit[:12]}"):
        spec = RepoSpec(record.repo, record.commit, record.subdirectory)
        tree = checkout(resolve_ref(spec, facility.index.ca_bundle), facility.cache, facility.index.ca_bundle)
        environment = detect(tree)
    base_reference = ImageReference.parse(record.base.reference)
    base = load_base(facility.store, facility.registry, base_reference.repository, record.base.digest, facility.cache)
    with phases.phase("lock", "reading the image's own lock"):
        text = read_lock(facility.store, reference.repository, there.digest)
        packages = read_pylock(text, base.inventory.target, f"the lock of {image}")
        planned = plan(base, _exactly(packages, base).sized(facility.wheelhouse), environment, tree)
    with phases.phase("layers", "making every layer again") as progress:
        layers = make_layers(planned, facility, LayerCache(scratch), progress, share=False)
    return there.digest, make_planned_image(planned, layers).digest


def _exactly(packages: Sequence[LockedPackage], base: Base) -> Lock:
    """Return the lock that names just these packages: what it does not name was removed of the base."""
    answer = compare(packages, base.inventory.analysis.by_name, base.inventory.target)
    named = {package.name for package in packages}
    removed = {package for package in answer.packages if package.name not in named}
    return replace(
        answer,
        packages=tuple(package for package in answer.packages if package not in removed),
        removed=tuple(sorted({*answer.removed, *removed})),
    )
