"""Decides what goes with an image, and attaches it.

::

    once per image     lock, SBOM, report of the lock, signature (where the site has a key)
    once per build     record, provenance, log

What is there already is not written again, so another commit of the same environment and tree costs the second line
alone. A commit that was built before costs nothing here: it never comes this far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.attachments.attach import (
    COMMIT_ANNOTATION,
    CREATED_ANNOTATION,
    TITLE,
    Artifact,
    attach,
    document,
)
from builder.attachments.build_log import LOG_TYPE
from builder.attachments.provenance import provenance_artifact
from builder.attachments.sbom import SBOM_TYPE, contents, unknown_contents, write_sbom
from builder.attachments.signature import is_signed, signature_artifact
from builder.locking.pylock import write_pylock
from builder.locking.wheel_metadata import MetadataShelf
from builder.record import LOCK_TYPE, lock_artifact, record_artifact
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.attachments.provenance import BuildInputs
    from builder.facility import Facility
    from builder.plan import BuildPlan
    from builder.record import ImageRecord
    from registry_sync.manifest import Manifest

REPORT_TYPE = "application/vnd.casabinder.report.v1+json"


def attach_all(
    facility: Facility,
    repository: str,
    image: Manifest,
    planned: BuildPlan,
    record: ImageRecord,
    inputs: BuildInputs,
    *,
    log: str,
    started: float,
    finished: float,
    report: Mapping[str, object] | None = None,
    requires: Mapping[str, tuple[str, ...]] | None = None,
    new: bool = False,
) -> None:
    """Attach everything that belongs to one build of ``image`` and is not there.

    ``started`` and ``finished`` are seconds since 1970; ``requires`` are Requires-Dist lines of the layered wheels by
    sha256, where they are known. ``new`` says that the image was not there before, so nothing can be attached to it.
    """
    there = [] if new else facility.store.referrers(repository, image.digest)
    types = {one.artifact_type for one in there}
    pylock = write_pylock(planned.lock.packages, planned.base.inventory.target)
    locked = bool(record.base.digest)  # a Dockerfile's image has neither base nor lock
    artifacts = []
    if locked and LOCK_TYPE not in types:
        artifacts.append(lock_artifact(pylock))
    if SBOM_TYPE not in types:
        if locked:
            known = _requires(planned, facility) if requires is None else requires
            stated = contents(planned, known, complete=not inputs.container)
        else:
            stated = unknown_contents(record.base.name, record.base.python, planned.env_id)
        artifacts.append(document(SBOM_TYPE, "sbom.cdx.json", write_sbom(stated, planned.base.inventory.target)))
    if locked and report is not None and REPORT_TYPE not in types:
        artifacts.append(document(REPORT_TYPE, "report.json", canonical_json(report)))
    notes = {COMMIT_ANNOTATION: record.commit, CREATED_ANNOTATION: record.created}
    artifacts.append(document(LOG_TYPE, "build.log", log.encode(), notes))
    made = {_title(one): one.blobs[0].data for one in artifacts if one.artifact_type != LOCK_TYPE}
    artifacts.append(
        provenance_artifact(record, inputs, planned, pylock, started=started, finished=finished, byproducts=made)
    )
    artifacts.append(record_artifact(record))
    signer = facility.signer
    if signer is not None and not is_signed(there, signer):
        name = f"{facility.registry}/{repository}"
        artifacts.append(signature_artifact(facility.store, repository, name, image.digest, signer))
    attach(facility.store, repository, image.descriptor(), artifacts)


def _requires(planned: BuildPlan, facility: Facility) -> dict[str, tuple[str, ...]]:
    shelf = MetadataShelf(facility.cache / "metadata", facility.wheelhouse, facility.index.ca_bundle)
    return {one.sha256: one.requires for one in shelf.describe(planned.lock.layered).values()}


def _title(artifact: Artifact) -> str:
    return artifact.blobs[0].annotations[TITLE]
