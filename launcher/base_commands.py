"""``casabinder base``: list, show, build and push facility base images."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from base_images.assemble import CHANNEL, build_base
from base_images.definition import catalogue
from base_images.identity import base_identity, base_repository
from builder.base import load_base
from registry_sync.copy import copy_image
from registry_sync.errors import CasabinderError
from registry_sync.open_store import open_store

if TYPE_CHECKING:
    from argparse import Namespace

    from launcher.context import Context


def list_bases(context: Context, arguments: Namespace) -> int:
    """Print every base of the catalogue and whether the registry has it."""
    rows = []
    for name in sorted(catalogue(context.catalogues)):
        definition = context.definition(name)
        identity = base_identity(definition, context.workshop)
        repository = base_repository(context.facility.prefix, name)
        there = context.facility.store.head_manifest(repository, identity)
        rows.append(
            {
                "name": name,
                "python": definition.python,
                "title": definition.document.title,
                "default": name == context.site.base,
                "reference": f"{context.facility.registry}/{repository}:{identity}",
                "digest": there.digest if there else None,
            }
        )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        state = "in the registry" if row["digest"] else "not built: casabinder base build " + str(row["name"])
        mark = "*" if row["default"] else " "
        print(f"{mark} {row['name']:<{width}}  Python {row['python']:<5} {row['title']}  ({state})")
    return 0


def show_base(context: Context, arguments: Namespace) -> int:
    """Print what a base consists of, from the registry if it is there, else from its definition."""
    definition = context.definition(arguments.name)
    identity = base_identity(definition, context.workshop)
    repository = base_repository(context.facility.prefix, definition.name)
    facility = context.facility
    if facility.store.head_manifest(repository, identity) is None:
        if arguments.json:
            print(json.dumps({"name": definition.name, "identity": identity, "built": False}, indent=2))
            return 0
        print(f"{definition.name}: {definition.document.title}")
        print(f"  not in the registry; make it with: casabinder base build {definition.name}")
        return 0
    base = load_base(facility.store, facility.registry, repository, identity, facility.cache)
    inventory = base.inventory
    size = sum(layer.size for layer in base.manifest.layers)
    if arguments.json:
        document = inventory.to_json() | {"digest": base.digest, "identity": identity, "bytes": size}
        print(json.dumps(document, indent=2))
        return 0
    print(f"{definition.name}: {definition.document.title}")
    print(f"  {definition.document.description}")
    print(f"  image      {facility.registry}/{repository}:{identity}")
    print(f"  digest     {base.digest}")
    print(f"  size       {size / 1e6:.0f} MB in {len(base.manifest.layers)} layers (compressed)")
    print(f"  python     {inventory.target.python_full}, glibc {inventory.target.glibc}, {inventory.target.platform}")
    print(f"  debian     {len(inventory.system_packages)} packages")
    print(f"  server     {len(inventory.server.packages)} packages in {inventory.server.prefix}")
    print(f"  analysis   {len(inventory.analysis.packages)} packages in {inventory.analysis.prefix}:")
    by_name = inventory.analysis.by_name
    asked = sorted({line.split("[")[0].strip().lower() for line in inventory.analysis.requirements} & set(by_name))
    for name in asked:
        print(f"    {by_name[name].name} {by_name[name].version}")
    return 0


def build_bases(context: Context, arguments: Namespace) -> int:
    """Make bases and push them to the facility's registry."""
    records = []
    for name in arguments.names or [context.site.base]:
        record = build_base(
            context.definition(name),
            context.workshop,
            context.facility.store,
            context.facility.registry,
            context.facility.prefix,
            refresh=arguments.refresh,
            say=lambda text, name=name: print(f"{name}: {text}", file=sys.stderr, flush=True),  # type: ignore[misc]
        )
        records.append(record)
        if not arguments.json:
            state = "is in the registry already" if record.cached else f"built, {record.bytes / 1e6:.0f} MB"
            print(f"{record.reference}\n  {record.digest} ({state})")
    if arguments.json:
        print(json.dumps([record.to_json() for record in records], indent=2))
    return 0


def push_base(context: Context, arguments: Namespace) -> int:
    """Copy a base that was built for this facility's registry to another one, inventory and all."""
    definition = context.definition(arguments.name)
    identity = base_identity(definition, context.workshop)
    facility = context.facility
    repository = base_repository(facility.prefix, definition.name)
    if facility.store.head_manifest(repository, identity) is None:
        raise CasabinderError(f"{definition.name} is not built yet: run `casabinder base build {definition.name}`")
    target, prefix = open_store(arguments.target, ca_bundle=facility.index.ca_bundle)
    destination = base_repository(prefix, definition.name)
    manifest = copy_image(facility.store, repository, identity, target, destination, (identity, CHANNEL))
    host = arguments.target if arguments.target.startswith("oci:") else arguments.target.partition("/")[0]
    print(f"{host}/{destination}:{identity}\n  {manifest.digest}")
    return 0
