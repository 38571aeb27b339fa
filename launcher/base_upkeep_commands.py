"""``casabinder base lock`` and ``status``: whether bases are as new as they could be, and what it takes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from base_images.assemble import lock_base
from base_images.definition import catalogue
from base_images.upgrade import Upgrade
from builder.base import load_base
from launcher.bases.status import base_status, utc_today
from launcher.bases.upgrade import check_names, compare
from registry_sync.errors import CasabinderError, NotFoundError

if TYPE_CHECKING:
    from argparse import Namespace

    from launcher.context import Context


def lock_bases(context: Context, arguments: Namespace) -> int:
    """Make locks anew, print what changed, and return 0; with ``--exit-code`` 1 if anything did."""
    upgrade = Upgrade(arguments.upgrade, frozenset(map(canonicalize_name, arguments.upgrade_package)))
    definitions = [context.definition(name) for name in arguments.names or sorted(catalogue(context.catalogues))]
    check_names(upgrade, definitions)
    differences = []
    for definition in definitions:
        locks = lock_base(definition, context.workshop, upgrade, write=not arguments.dry_run)
        for environment, packages in locks.items():
            one = compare(definition, environment, packages, context.workshop)
            differences.append(one)
            if not arguments.json:
                print(one.to_text(), flush=True)
    if arguments.json:
        print(json.dumps([one.to_json() for one in differences], indent=2))
    elif arguments.dry_run:
        print("nothing was written")
    return int(arguments.exit_code and any(one.changes for one in differences))


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
