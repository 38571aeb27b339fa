"""Writes and reads the bill of materials of an image: CycloneDX 1.6 JSON, of everything that is in it.

Components are the packages of the analysis and of the server environment, Debian's packages below them, and the base
image; edges follow the Requires-Dist lines whose markers hold, extras that somebody asks for included. The document is
a function of the environment alone (``env_id``; the serial number is made from it), so images of one environment have
the same one. What CycloneDX has no word for are properties ``casabinder:...``; among them are the Requires-Dist
lines themselves, so that a rebase need not fetch a wheel to read them.
Source: https://cyclonedx.org/docs/1.6/json/.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from builder.base import InstalledPackage
from builder.locking.closure import extras_in_use, needs
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.plan import BuildPlan
    from builder.target import PythonTarget

SBOM_TYPE = "application/vnd.cyclonedx+json"

_NAMESPACE = uuid.UUID("5d0f6a0e-6f0b-5a52-9a0e-0c2f0f2c6d55")
_DOCUMENT_VERSION = 1  # of what is written for one env_id


@dataclass(frozen=True)
class Component:
    """One package of an image. ``environment`` is ``analysis``, ``server`` or ``system``; ``origin`` is ``base``,
    ``added`` or ``replaced``; ``requires`` are its Requires-Dist lines."""

    name: str
    version: str
    environment: str
    origin: str = "base"
    sha256: str = ""
    indexed: bool = True
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What an image consists of: its base and all packages."""

    base_name: str
    base_digest: str
    python: str
    components: tuple[Component, ...]
    env_id: str = ""
    complete: bool = True
    removed: tuple[str, ...] = field(default=())

    def of(self, environment: str) -> dict[str, Component]:
        """Return the packages of one environment by name."""
        return {one.name: one for one in self.components if one.environment == environment}


def contents(planned: BuildPlan, requires: Mapping[str, tuple[str, ...]], *, complete: bool = True) -> Contents:
    """Return what an image of ``planned`` consists of. ``requires`` are Requires-Dist lines by wheel sha256."""
    inventory, lock = planned.base.inventory, planned.lock
    replaced = {new.name for _, new in lock.replaced}
    layered = {package.name for package in lock.layered}
    analysis = [
        Component(
            package.name,
            package.version,
            "analysis",
            "replaced" if package.name in replaced else "added",
            package.sha256,
            bool(package.url),
            requires.get(package.sha256, ()),
        )
        for package in lock.layered
    ]
    kept = {package.name for package in lock.packages} - layered
    analysis += _installed((one for one in inventory.analysis.packages if one.name in kept), "analysis")
    return Contents(
        base_name=inventory.name,
        base_digest=planned.base.digest,
        python=inventory.target.python_full,
        components=(
            *sorted(analysis, key=lambda one: one.name),
            *_installed(inventory.server.packages, "server"),
            *system_components(inventory.system_packages),
        ),
        env_id=planned.env_id,
        complete=complete,
        removed=tuple(package.name for package in lock.removed),
    )


def unknown_contents(name: str, python: str, env_id: str) -> Contents:
    """Return the contents of an image whose packages nobody has looked at: it was made by its own Dockerfile."""
    return Contents(name, "", python, (), env_id, complete=False)


def _installed(packages: Iterable[InstalledPackage], environment: str) -> list[Component]:
    return [
        Component(
            one.name, one.version, environment, sha256=one.sha256, indexed=bool(one.url), requires=tuple(one.requires)
        )
        for one in packages
    ]


def system_components(lines: Iterable[str]) -> list[Component]:
    """Return Debian packages from an inventory's ``name=version`` lines."""
    split = sorted(line.partition("=")[::2] for line in lines)
    return [Component(name, version, "system") for name, version in split]


def write_sbom(stated: Contents, target: PythonTarget) -> bytes:
    """Return the CycloneDX document."""
    environments = {name: stated.of(name) for name in ("analysis", "server")}
    dependencies = [
        {"ref": f"environment:{stated.env_id}", "dependsOn": sorted(["base", *map(_ref, stated.components)])},
    ]
    for packages in environments.values():
        edges = _edges(packages, target)
        dependencies += [
            {"ref": _ref(packages[name]), "dependsOn": sorted(_ref(packages[other]) for other in edges[name])}
            for name in sorted(packages)
        ]
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, stated.env_id)}",
        "version": _DOCUMENT_VERSION,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": f"environment:{stated.env_id}",
                "name": "environment",
                "version": stated.env_id,
                "properties": [_property("removed", name) for name in stated.removed],
            }
        },
        "components": [_base(stated), *map(_component, stated.components)],
        "dependencies": dependencies,
        "compositions": [
            {
                "aggregate": "complete" if stated.complete else "incomplete",
                "assemblies": [f"environment:{stated.env_id}"],
            }
        ],
    }
    return canonical_json(document)


def read_sbom(raw: bytes) -> Contents:
    """Read a document that :func:`write_sbom` wrote; raise :class:`CasabinderError` for another."""
    try:
        document = json.loads(raw)
        base, *others = document["components"]
        about = document["metadata"]["component"]
        return Contents(
            base_name=base["name"],
            base_digest=base.get("version", ""),
            python=_properties(base)["python"][0],
            components=tuple(_read(one) for one in others),
            env_id=about["version"],
            complete=document["compositions"][0]["aggregate"] == "complete",
            removed=tuple(_properties(about).get("removed", ())),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CasabinderError("the image's SBOM was not written by casabinder, and can't be compared") from error


def _base(stated: Contents) -> dict[str, Any]:
    if not stated.base_digest:
        named = {"type": "container", "bom-ref": "base", "name": stated.base_name}
        return {**named, "properties": [_property("python", stated.python)]}
    digest = stated.base_digest.removeprefix("sha256:")
    return {
        "type": "container",
        "bom-ref": "base",
        "name": stated.base_name,
        "version": stated.base_digest,
        "purl": f"pkg:oci/{quote(stated.base_name.lower(), safe='.-_~')}@sha256%3A{digest}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "properties": [_property("python", stated.python)],
    }


def _component(one: Component) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(one),
        "name": one.name,
        "version": one.version,
        "purl": _purl(one),
    }
    if one.sha256:
        document["hashes"] = [{"alg": "SHA-256", "content": one.sha256}]
    properties = [_property("environment", one.environment), _property("origin", one.origin)]
    properties += [_property("requires-dist", line) for line in one.requires]
    document["properties"] = properties
    return document


def _read(document: Mapping[str, Any]) -> Component:
    properties = _properties(document)
    return Component(
        name=document["name"],
        version=document["version"],
        environment=properties["environment"][0],
        origin=properties["origin"][0],
        sha256=document["hashes"][0]["content"] if document.get("hashes") else "",
        indexed=not document["purl"].startswith("pkg:generic/"),
        requires=tuple(properties.get("requires-dist", ())),
    )


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"casabinder:{name}", "value": value}


def _properties(document: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in document.get("properties", ()):
        found.setdefault(entry["name"].removeprefix("casabinder:"), []).append(entry["value"])
    return found


def _ref(one: Component) -> str:
    return f"{one.environment}:{one.name}@{one.version}"


def _purl(one: Component) -> str:
    """Return the package URL: a wheel that was made here is of no index, so that it is not taken for another's."""
    name, version = quote(one.name, safe=".-_~"), quote(one.version, safe=".-_~")
    if one.environment == "system":
        package, _, architecture = one.name.partition(":")
        qualifier = f"?arch={quote(architecture)}" if architecture else ""
        return f"pkg:deb/debian/{quote(package, safe='.-_~+')}@{version}{qualifier}"
    return f"pkg:{'pypi' if one.indexed else 'generic'}/{name}@{version}"


def _edges(packages: Mapping[str, Component], target: PythonTarget) -> dict[str, set[str]]:
    """Return which packages each one needs, with the extras that any of them asks another for."""
    known = {name: installed(one) for name, one in packages.items()}
    extras = extras_in_use(known, target)
    return {
        name: {
            other
            for requirement in needs(package, target, extras.get(name, ()))
            if (other := canonicalize_name(requirement.name)) in packages and other != name
        }
        for name, package in known.items()
    }


def installed(one: Component) -> InstalledPackage:
    """Return a Python package of an SBOM as an inventory has it, without its wheel's file name and address."""
    return InstalledPackage(one.name, one.version, "", one.sha256, one.requires)
