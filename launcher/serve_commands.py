"""``casabinder serve`` and ``casabinder site``."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from launcher.pools.exposure import hub_exposure
from launcher.serve import notebooks, serve, with_address
from launcher.site_config import Site
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from argparse import Namespace

    from launcher.context import Context
    from launcher.hub.plan import ServePlan


def serve_facility(context: Context, arguments: Namespace) -> int:
    """Run the facility until Ctrl-C or SIGTERM."""
    began = time.monotonic()
    context = replace(context, site=with_address(context.site, arguments.port, arguments.mode))
    cache, mode = context.facility.cache, context.site.hub.mode
    people = "everybody gets a temporary user" if mode == "anonymous" else "people log in"
    served = False

    def ready(plan: ServePlan) -> None:
        nonlocal served
        served = True
        print(f"{plan.public_url}/", flush=True)
        print(f"  mode      {mode}: {people}", flush=True)
        print(f"  logs      {cache / 'log' / 'serve'}", flush=True)
        print(f"  ready after {time.monotonic() - began:.1f} s; Ctrl-C ends it, notebook servers go on", flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve(context, _say, ready)
    except KeyboardInterrupt:
        _say("ended")
    finally:
        with suppress(CasabinderError):  # Docker may have gone, which is no news any more
            if served and (number := notebooks(cache)):
                _say(
                    f"{number} notebook server(s) go on and are found again at the next start; "
                    "to end them as well: scripts/stop --all"
                )
    return 0


def check_site(context: Context, _arguments: Namespace) -> int:
    """Say that the site's configuration can be used: reading it was the check, but for what only servers need."""
    site = context.site
    print(
        f"registry {site.registry}, base {site.base}, {site.hub.mode} mode on {site.service.listen}:{site.service.port}"
    )
    if site.pool.kind == "htcondor":
        from launcher.hub.pool_access import check_hub_pool, hub_pool_warning

        workers = f"workers in the pool {site.pool.collector}"
        try:
            check_hub_pool(site)
        except CasabinderError as error:
            print(f"{workers} of `casabinder launch` alone; `casabinder serve` would say: {error}")
        else:
            print(f"{workers}, which reach a server by {hub_exposure(site)}")
            if warning := hub_pool_warning(site):
                print(f"WARNING: {warning}")
    return 0


def print_schema(_context: Context, _arguments: Namespace) -> int:
    """Print the JSON schema of ``site.yaml``."""
    print(json.dumps(Site.model_json_schema(), indent=2))
    return 0


def _say(sentence: str) -> None:
    print(f"{'serve':<9} {sentence}", file=sys.stderr, flush=True)
