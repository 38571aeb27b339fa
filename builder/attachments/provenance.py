"""Writes and reads what an image was made from: an in-toto statement with SLSA provenance, one per commit.

``externalParameters`` are what the user asked for, ``internalParameters`` what the repository's files were found to say
(a rebase works from them, without the repository), ``resolvedDependencies`` the commit, the base, the lock and every
wheel that has a layer, with digests. A repository of this machine is named by its last path component only (the record
has its path), addresses lose user names, passwords and queries, and wheels are named by package URL, since an index's
address may be private. Sources: https://slsa.dev/spec/v1.0/provenance,
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from builder.attachments.attach import COMMIT_ANNOTATION, CREATED_ANNOTATION, Artifact, document
from builder.attachments.build_log import scrub
from builder.environment.spec import EditableProject
from builder.layers.layer import RECIPE
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.environment.spec import EnvironmentSpec, StatedRequirement
    from builder.locking.pylock import LockedPackage
    from builder.plan import BuildPlan
    from builder.record import ImageRecord

PROVENANCE_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
BUILD_TYPE = "urn:casabinder:build:v1"
BUILDER_ID = "urn:casabinder:builder"


@dataclass(frozen=True)
class BuildInputs:
    """What a repository asked for, as far as it decides an image on another base.

    ``requirements``, ``constraints``, ``pins`` (of its own lock) and ``sources`` (their names) are PEP 508 lines and
    where they stand; ``base`` is the one that the repository names, if any; ``tree`` is the git tree of the commit;
    ``options`` are the user's.
    """

    tree: str
    file: str = ""
    requirements: tuple[tuple[str, str], ...] = ()
    constraints: tuple[tuple[str, str], ...] = ()
    pins: tuple[tuple[str, str], ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    python: str = ""
    python_source: str = ""
    base: str = ""
    editables: tuple[EditableProject, ...] = ()
    container: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: EnvironmentSpec, tree: str, options: Mapping[str, Any]) -> BuildInputs:
        """Return the inputs of a build."""
        from builder.asked import named_sources
        from builder.locking.stated import stated_pins

        return cls(
            tree=tree,
            file=spec.file,
            requirements=_lines(spec.requirements),
            constraints=_lines(spec.constraints),
            pins=_lines(stated_pins(spec.lock)) if spec.lock else (),
            sources=_lines(named_sources(spec)),
            python=str(spec.python),
            python_source=spec.python_source,
            base=spec.base,
            editables=spec.editables,
            container=spec.container is not None,
            options=dict(options),
        )


@dataclass(frozen=True)
class Provenance:
    """A statement that was read: its inputs and the whole document."""

    inputs: BuildInputs
    document: Mapping[str, Any]


def provenance_artifact(
    record: ImageRecord,
    inputs: BuildInputs,
    planned: BuildPlan,
    pylock: str,
    *,
    started: float,
    finished: float,
    byproducts: Mapping[str, bytes] | None = None,
) -> Artifact:
    """Return the provenance of one build; ``byproducts`` are the other documents of it, by title."""
    notes = {
        COMMIT_ANNOTATION: record.commit,
        CREATED_ANNOTATION: record.created,
        "in-toto.io/predicate-type": PREDICATE_TYPE,
    }
    statement = _statement(record, inputs, planned, pylock, started, finished, byproducts or {})
    return document(PROVENANCE_TYPE, "provenance.json", canonical_json(statement), notes)


def read_provenance(raw: bytes) -> Provenance:
    """Read a statement that :func:`provenance_artifact` wrote; raise :class:`CasabinderError` for another."""
    try:
        statement = json.loads(raw)
        if statement["predicate"]["buildDefinition"]["buildType"] != BUILD_TYPE:
            raise ValueError("buildType")
        fields = dict(statement["predicate"]["buildDefinition"]["internalParameters"]["inputs"])
        for name in ("requirements", "constraints", "pins", "sources"):
            fields[name] = tuple((str(line), str(source)) for line, source in fields.get(name, ()))
        fields["editables"] = tuple(_editable(entry) for entry in fields["editables"])
        return Provenance(BuildInputs(**fields), statement)
    except (KeyError, TypeError, ValueError) as error:
        raise CasabinderError(
            "the image's provenance was not written by this version of casabinder; build it again with --rebuild"
        ) from error


def _lines(items: Iterable[StatedRequirement]) -> tuple[tuple[str, str], ...]:
    return tuple((scrub(str(item.requirement), {}), item.source) for item in items)


def _editable(entry: Mapping[str, Any]) -> EditableProject:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    fields["generated"] = tuple((str(path), str(text)) for path, text in entry["generated"])
    return EditableProject(**fields)


def public_address(repo: str) -> str:
    """Return a repository's address for everybody: no path of this machine, no user name, no password, no query."""
    parts = urlsplit(repo) if "://" in repo else None
    if repo.startswith(("/", "~", ".")) or (parts is not None and parts.scheme == "file"):
        return "file:" + quote((parts.path if parts else repo).rstrip("/").rpartition("/")[2])
    if parts is None:
        return repo
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _base_and_lock(record: ImageRecord, planned: BuildPlan, pylock: str) -> list[dict[str, Any]]:
    base = {
        "name": "base",
        "uri": _oci(record.base.name, record.base.digest),
        "digest": _digest(record.base.digest),
    }
    lock = {
        "name": "pylock.toml",
        "digest": {"sha256": _sha256(pylock.encode())},
        "annotations": {"lock_sha256": record.lock_sha256},
    }
    return [base, lock, *map(_wheel, planned.lock.layered)]


def _statement(
    record: ImageRecord,
    inputs: BuildInputs,
    planned: BuildPlan,
    pylock: str,
    started: float,
    finished: float,
    byproducts: Mapping[str, bytes],
) -> dict[str, Any]:
    address = public_address(record.repo)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": record.image_id, "digest": _digest(record.digest)}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "repository": address,
                    "ref": record.ref,
                    "commit": record.commit,
                    "subdirectory": record.subdirectory,
                    "base": record.base.name,
                    "options": dict(inputs.options),
                },
                "internalParameters": {
                    "inputs": asdict(inputs),
                    "env_id": record.env_id,
                    "image_id": record.image_id,
                    "platform": planned.base.inventory.target.platform,
                    "recipe": RECIPE,
                },
                "resolvedDependencies": [
                    {
                        "name": "repository",
                        "uri": f"git+{address}@{record.commit}",
                        "digest": {"gitCommit": record.commit, "gitTree": inputs.tree},
                    },
                    *(_base_and_lock(record, planned, pylock) if record.base.digest else ()),
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER_ID, "version": {"casabinder": _version()}},
                "metadata": {"startedOn": _time(started), "finishedOn": _time(finished)},
                "byproducts": [
                    {"name": title, "digest": {"sha256": _sha256(data)}} for title, data in sorted(byproducts.items())
                ],
            },
        },
    }


def _wheel(package: LockedPackage) -> dict[str, Any]:
    kind = "pypi" if package.url else "generic"
    return {
        "name": package.filename,
        "uri": f"pkg:{kind}/{quote(package.name, safe='.-_~')}@{quote(package.version, safe='.-_~')}",
        "digest": {"sha256": package.sha256},
    }


def _oci(name: str, digest: str) -> str:
    return f"pkg:oci/{quote(name.lower(), safe='.-_~')}@{quote(digest)}"


def _digest(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("casabinder")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
