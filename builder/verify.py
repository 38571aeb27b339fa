"""Makes an image again from what is stored with it, and checks what goes with it.

The lock, the base's digest and the commit that are attached to the image decide the same bytes on any day, so every
layer is written anew and nothing is taken from a cache of layers. What is stored beside the image is checked whether it
can be made again or not.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from builder.assemble import make_layers, make_planned_image
from builder.attachments.inspection import DOCUMENTS
from builder.attachments.location import locate, split_name
from builder.attachments.signature import check_signature
from builder.base import load_base
from builder.environment.detect import detect
from builder.events import Phases, Reporter, silent
from builder.layers.cache import LayerCache
from builder.layers.layer import compression_of
from builder.locking.lock import Lock, compare
from builder.locking.pylock import read_pylock
from builder.plan import plan
from builder.record import read_lock, read_records
from builder.repository.checkout import checkout, resolve_ref
from builder.repository.spec import RepoSpec
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.attachments.location import Location
    from builder.base import Base
    from builder.facility import Facility
    from builder.locking.pylock import LockedPackage
    from builder.plan import BuildPlan
    from builder.record import ImageRecord
    from registry_sync.manifest import Manifest

_WORKERS = 6
_NEEDED = ("lock", "sbom", "provenance", "log")


class BaseGoneError(CasabinderError):
    """The base of an image is not where it was."""


@dataclass(frozen=True)
class LayerDifference:
    """A layer that came out otherwise: its place from the bottom, what it is, both digests (``""``: there is none)."""

    position: int
    what: str
    stored: str
    made: str


@dataclass(frozen=True)
class Verification:
    """What was found: ``stored`` is the image's digest and ``made`` the one that came out.

    ``made`` is ``""`` where it can't be made again, and ``why`` says why not. ``faults`` are sentences about what is
    missing or wrong beside that.
    """

    image: str
    stored: str
    made: str
    why: str = ""
    differences: tuple[LayerDifference, ...] = ()
    faults: tuple[str, ...] = ()
    signed_by: str = ""

    @property
    def reproduced(self) -> bool:
        """Whether the same digest came out."""
        return self.stored == self.made

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the image: it came out the same, or nobody said that it would."""
        return not self.faults and (self.reproduced or not self.made)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "image": self.image,
            "stored": self.stored,
            "made": self.made or None,
            "reproduced": self.reproduced,
            "why": self.why,
            "differences": [vars(one) for one in self.differences],
            "faults": list(self.faults),
            "signed_by": self.signed_by or None,
        }


def verify(
    image: str, facility: Facility, scratch: Path, report: Reporter = silent, *, key: Path | None = None
) -> Verification:
    """Check an image and make it again from its own lock, base and commit; every layer is written below ``scratch``.

    ``key`` is a PEM file with the public key that must have signed it. Raises :class:`CasabinderError` when the image
    is not one of ours, when its base or repository can't be had any more, or when it is not signed with ``key``.
    """
    phases = Phases(report)
    with locate(image, facility) as location:
        signed_by = check_signature(location.store, location.repository, location.digest, key) if key else ""
        record = read_records(location.store, location.repository, location.digest)[0]
        base = base_of(record, location, facility) if record.base.digest else None
        faults = _faults(location, base)
        if not record.reproducible or base is None:
            why = "its commands were run in a container, so its layers can't be made again byte for byte"
            return Verification(image, location.digest, "", why, faults=faults, signed_by=signed_by)
        planned = _planned(record, location, base, facility, phases)
        with phases.phase("layers", "making every layer again") as progress:
            layers = make_layers(planned, facility, LayerCache(scratch), progress, share=False)
        made = make_planned_image(planned, layers).manifest
        differences = _differences(location.manifest, made, record, planned)
        return Verification(image, location.digest, made.digest, "", differences, faults, signed_by)


def base_of(record: ImageRecord, location: Location, facility: Facility) -> Base:
    """Load the base of an image: from beside it, from the facility, or from the registry that its record names.

    Raises :class:`BaseGoneError` when none of them has it.
    """
    registry, repository = split_name(record.base.reference, (location.registry, facility.registry))
    digest = record.base.digest
    places = [(location.store, location.registry), (facility.store, facility.registry)]
    for store, name in places:
        try:
            return load_base(store, name, repository, digest, facility.cache)
        except NotFoundError:
            continue
    if registry and registry not in (location.registry, facility.registry):
        with RegistryClient(registry, ca_bundle=facility.index.ca_bundle) as client:
            try:
                base = load_base(client, registry, repository, digest, facility.cache)
                _ = base.files  # before the connection is closed
                if base.inventory.bytecode:
                    base.interpreter(facility.cache)
            except NotFoundError:
                pass
            else:
                return base
    raise BaseGoneError(
        f"the base of {location}, {record.base.reference} with the digest {digest}, is not there any more, so that "
        "the image can't be made again; push the base back, or build the commit again on another one"
    )


def exactly(packages: Sequence[LockedPackage], base: Base) -> Lock:
    """Return the lock that names just these packages: what it does not name was removed of the base."""
    wheels = {package.name: frozenset({package.sha256}) for package in packages}
    answer = compare(packages, base.inventory.analysis.by_name, base.inventory.target, allowed=wheels)
    named = {package.name for package in packages}
    removed = {package for package in answer.packages if package.name not in named}
    return replace(
        answer,
        packages=tuple(package for package in answer.packages if package not in removed),
        removed=tuple(sorted({*answer.removed, *removed})),
    )


def _planned(record: ImageRecord, location: Location, base: Base, facility: Facility, phases: Phases) -> BuildPlan:
    with phases.phase("fetch", f"fetching {record.repo} at {record.commit[:12]}"):
        spec = RepoSpec(record.repo, record.commit, record.subdirectory)
        try:
            tree = checkout(resolve_ref(spec, facility.fetching), facility.cache, facility.fetching)
        except CasabinderError as error:
            raise CasabinderError(
                f"{location} can't be made again, because its repository can't be had: {error}"
            ) from error
        environment = detect(tree)
    with phases.phase("lock", "reading the image's own lock"):
        text = read_lock(location.store, location.repository, location.digest)
        packages = read_pylock(text, base.inventory.target, f"the lock of {location}")
        answer = exactly(packages, base).sized(facility.wheelhouse)
        return plan(base, answer, environment, tree, compression_of(location.manifest.layers))


def _faults(location: Location, base: Base | None) -> tuple[str, ...]:
    """Return what is missing of an image, or beside it; one without a base has no lock either."""
    store, repository, manifest = location.store, location.repository, location.manifest
    types = {one.artifact_type for one in store.referrers(repository, location.digest)}
    needed = _NEEDED if base else [name for name in _NEEDED if name != "lock"]
    found = [f"the image carries no {name}" for name in needed if DOCUMENTS[name] not in types]
    parts = [manifest.config, *manifest.layers]
    with ThreadPoolExecutor(_WORKERS) as pool:
        sizes = pool.map(lambda part: store.head_blob(repository, part.digest), parts)
        found += [
            f"the blob {part.digest} is {'not there' if size is None else 'of another size than the manifest says'}"
            for part, size in zip(parts, sizes, strict=True)
            if size != part.size
        ]
    below = base.manifest.layers if base else ()
    if base and [one.digest for one in manifest.layers[: len(below)]] != [one.digest for one in below]:
        found.append(f"the image's lowest {len(below)} layers are not those of its base {base.digest}")
    return tuple(found)


def _differences(
    stored: Manifest, made: Manifest, record: ImageRecord, planned: BuildPlan
) -> tuple[LayerDifference, ...]:
    old, new = [one.digest for one in stored.layers], [one.digest for one in made.layers]
    below = len(planned.base.manifest.layers)
    whats = [*([planned.base.inventory.name] * below), *planned.whats]
    told = {layer.digest: layer.what for layer in record.layers}
    found = []
    for position in range(max(len(old), len(new))):
        left = old[position] if position < len(old) else ""
        right = new[position] if position < len(new) else ""
        if left != right:
            what = whats[position] if position < len(whats) else told.get(left, "")
            found.append(LayerDifference(position, what, left, right))
    if not found and stored.config.digest != made.config.digest:
        found.append(LayerDifference(-1, "configuration", stored.config.digest, made.config.digest))
    return tuple(found)
