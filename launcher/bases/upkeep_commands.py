"""``casabinder base lock`` and ``status``: whether bases are as new as they could be, and what it takes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from base_images.definition import catalogue, read_lock
from base_images.locking import lock_additions, lock_base
from base_images.upgrade import Upgrade
from builder.base import load_base
from launcher.bases.status import base_status, utc_today
from launcher.bases.upgrade import check_names, compare, compare_additions
from registry_sync.errors import CasabinderError, NotFoundError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from base_images.definition import Definition
    from base_images.identity import Workshop
    from launcher.bases.upgrade import LockDifference
    from launcher.context import Context


def lock_bases(context: Context, arguments: Namespace) -> int:
    """Make locks anew, print what changed, and return 0; with ``--exit-code`` 1 if anything did."""
    upgrade = Upgrade(arguments.upgrade, frozenset(map(canonicalize_name, arguments.upgrade_package)))
    definitions = [context.definition(name) for name in arguments.names or sorted(catalogue(context.catalogues))]
    locked = _locked_additions if arguments.additions else _locked
    differences = []
    for one in locked(context.workshop, definitions, upgrade, write=not arguments.dry_run):
        differences.append(one)
        if not arguments.json:
            print(one.to_text(), flush=True)
    if arguments.json:
        print(json.dumps([one.to_json() for one in differences], indent=2))
    elif arguments.dry_run:
        print("nothing was written")
    return int(arguments.exit_code and any(one.changes for one in differences))


def _locked(
    workshop: Workshop, definitions: Sequence[Definition], upgrade: Upgrade, *, write: bool
) -> Iterator[LockDifference]:
    check_names(upgrade, [pins for definition in definitions for pins in definition.locks.values()])
    for definition in definitions:
        for environment, packages in lock_base(definition, workshop, upgrade, write=write).items():
            yield compare(definition, environment, packages, workshop)


def _locked_additions(
    workshop: Workshop, definitions: Sequence[Definition], upgrade: Upgrade, *, write: bool
) -> Iterator[LockDifference]:
    if not workshop.additions.packages:
        raise CasabinderError("site.yaml adds no packages to bases: state some under `additions`")
    before = {definition.name: read_lock(workshop.additions.lock_file(definition.name)) for definition in definitions}
    check_names(upgrade, before.values())
    for definition in definitions:
        packages = lock_additions(definition, workshop, upgrade, write=write)
        yield compare_additions(definition, before[definition.name], packages, workshop)


def base_statuses(context: Context, arguments: Namespace) -> int:
    """Print the state of bases and return 0; with ``--exit-code`` 1 if any could be newer, or it can't be told."""
    statuses = []
    for name in arguments.names or sorted(catalogue(context.catalogues)):
        choice = context.bases(name).offers[0].choice
        store = choice.store or context.facility.store
        try:
            base = load_base(store, choice.registry, choice.repository, choice.reference, context.facility.cache)
        except NotFoundError as error:
            if arguments.names:
                raise CasabinderError(f"the base {name} is not in the registry: {choice}") from error
            print(f"{name}: not in the registry", file=sys.stderr)
            continue
        one = base_status(base, str(choice), context.workshop, utc_today)
        statuses.append(one)
        if not arguments.json:
            print(one.to_text(), flush=True)
    if arguments.json:
        print(json.dumps([one.to_json() for one in statuses], indent=2))
    return int(arguments.exit_code and any(one.stale for one in statuses))
