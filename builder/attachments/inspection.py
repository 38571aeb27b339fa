"""Gathers what is known of an image or a base from what is attached to it: the data behind ``casabinder inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.attachments.attach import COMMIT_ANNOTATION, newest, read_artifact
from builder.attachments.build_log import LOG_TYPE
from builder.attachments.bundle import REPORT_TYPE
from builder.attachments.provenance import PROVENANCE_TYPE, read_provenance
from builder.attachments.sbom import SBOM_TYPE, Component, Contents, read_sbom, system_components
from builder.attachments.signature import KEY_ANNOTATION, SIGNATURE_TYPE
from builder.base import INVENTORY_TYPE, Inventory, load_base
from builder.record import LOCK_TYPE, RECORD_TYPE, read_records
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.attachments.location import Location
    from builder.record import ImageRecord
    from registry_sync.manifest import Descriptor

DOCUMENTS = {
    "lock": LOCK_TYPE,
    "sbom": SBOM_TYPE,
    "provenance": PROVENANCE_TYPE,
    "log": LOG_TYPE,
    "report": REPORT_TYPE,
}
"""The documents of an image by the names that a user gives them."""


@dataclass(frozen=True)
class Inspection:
    """What is known of one image. A base has no ``records``; ``tree`` is empty where nobody has said it.

    ``attachments`` are (type, digest of the artifact, commit or ``""``); ``signed_by`` are fingerprints of keys, as
    stated: whether they are right is for ``casabinder verify --key`` to say.
    """

    name: str
    digest: str
    contents: Contents
    layers: tuple[tuple[str, int, str], ...]
    attachments: tuple[tuple[str, str, str], ...]
    records: tuple[ImageRecord, ...] = ()
    signed_by: tuple[str, ...] = ()
    tree: str = ""

    @property
    def is_base(self) -> bool:
        """Whether it is a base image."""
        return not self.records

    @property
    def reproducible(self) -> bool:
        """Whether the same inputs give the same digest again."""
        return all(record.reproducible for record in self.records)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        stated = self.contents
        return {
            "image": self.name,
            "digest": self.digest,
            "kind": "base" if self.is_base else "image",
            "env_id": stated.env_id,
            "base": {"name": stated.base_name, "digest": stated.base_digest, "python": stated.python},
            "tree": self.tree,
            "reproducible": self.reproducible,
            "signed_by": list(self.signed_by),
            "removed": list(stated.removed),
            "packages": [
                {"name": one.name, "version": one.version, "environment": one.environment, "origin": one.origin}
                for one in stated.components
            ],
            "layers": [{"digest": digest, "bytes": size, "what": what} for digest, size, what in self.layers],
            "attachments": [
                {"type": kind, "digest": digest, "commit": commit} for kind, digest, commit in self.attachments
            ],
            "records": [record.to_json() for record in self.records],
        }


def inspect(location: Location, cache: Path) -> Inspection:
    """Read what is attached to an image or a base; no layer is read.

    Raises :class:`CasabinderError` when it is neither an image nor a base of casabinder's.
    """
    store, repository = location.store, location.repository
    referrers = store.referrers(repository, location.digest)
    attachments = tuple(
        sorted((one.artifact_type or "", one.digest, one.annotations.get(COMMIT_ANNOTATION, "")) for one in referrers)
    )
    keys = {
        key
        for one in referrers
        if one.artifact_type == SIGNATURE_TYPE
        for key in one.annotations.get(KEY_ANNOTATION, "unknown").split()
    }
    types = {one.artifact_type for one in referrers}
    if RECORD_TYPE in types:
        records = tuple(read_records(store, repository, location.digest))
        whats = {layer.digest: layer.what for layer in records[0].layers}
        stated = read_sbom(read_document(location, "sbom", referrers=referrers))
        tree = read_provenance(read_document(location, "provenance", referrers=referrers)).inputs.tree
    elif INVENTORY_TYPE in types:
        base = load_base(store, location.registry, repository, location.digest, cache)
        records, tree, stated = (), "", base_contents(base.inventory, base.digest)
        history = [one.get("created_by", "") for one in base.config.get("history", []) if not one.get("empty_layer")]
        whats = dict(zip((layer.digest for layer in location.manifest.layers), history, strict=False))
        whats = {digest: what.removeprefix("casabinder: ") for digest, what in whats.items()}
    else:
        raise CasabinderError(f"{location} carries neither a record nor an inventory; it was not built by casabinder")
    return Inspection(
        name=f"{location.registry}/{repository}",
        digest=location.digest,
        contents=stated,
        layers=tuple((one.digest, one.size, whats.get(one.digest, "")) for one in location.manifest.layers),
        attachments=attachments,
        records=records,
        signed_by=tuple(sorted(keys)),
        tree=tree,
    )


def read_document(
    location: Location, name: str, commit: str = "", referrers: Sequence[Descriptor] | None = None
) -> bytes:
    """Return one of :data:`DOCUMENTS` as it is stored, the newest; raise :class:`CasabinderError` if there is none."""
    kind = DOCUMENTS[name]
    if referrers is None:
        referrers = location.store.referrers(location.repository, location.digest, kind)
    found = newest(referrers, kind, commit)
    if found is None:
        raise CasabinderError(f"{location} carries no {name}; build it again with --rebuild")
    return read_artifact(location.store, location.repository, found)


def base_contents(inventory: Inventory, digest: str) -> Contents:
    """Return what a base consists of, in the words of an image's SBOM."""
    environments = {"analysis": inventory.analysis, "server": inventory.server}
    packages = [
        Component(one.name, one.version, name, sha256=one.sha256, indexed=bool(one.url), requires=one.requires)
        for name, environment in environments.items()
        for one in environment.packages
    ]
    everything = (*packages, *system_components(inventory.system_packages))
    return Contents(inventory.name, digest, inventory.target.python_full, everything)
