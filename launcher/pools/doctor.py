"""Looks at everything between a site and its workers, and says of each thing in one sentence whether it works.

::

    collector   answers, and how many nodes it knows
    schedd      is known there, and answers
    token       can be minted from the signing key
    write       the schedd takes its bearer for the user and for nobody else, queues their job, lets them do no more
    address     is this machine's, and not loopback when the pool is elsewhere
    universe    slots that run the site's universe
    network     with containers that have one of their own: both ends are reached from there
    source      in the container universe: where nodes find images, and whether this machine sees it
    gpus        slots with GPUs, where workers may have some
    prepull     who brings images to how many nodes, where that is done
    images      the registry answers

What depends on something that does not work is not looked at. HTCondor is asked by :mod:`launcher.pools.probe`.
"""

from __future__ import annotations

import importlib.util
import logging
import socket
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launcher.pools.finding import Finding, many
from launcher.pools.option_findings import gpus_finding, network_finding, prepull_finding, source_finding
from launcher.pools.surroundings import ProbeError, ask, surroundings
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from launcher.pools.probe import Attempt, Sight
    from launcher.pools.site_pool import BatchPool
    from registry_sync.store import Store

logger = logging.getLogger(__name__)

PROBE_SECONDS = 30


def examine_pool(pool: BatchPool, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Yield the findings about a pool; ``clock`` is what the token's life is counted from."""
    if importlib.util.find_spec("htcondor2") is None:
        yield Finding(
            "bindings", "failed", "HTCondor's Python bindings are missing: run `pip install casabinder[htcondor]`"
        )
        return
    try:
        token, why = pool.token(clock), ""
    except CasabinderError as error:
        token, why = "", str(error)
    with surroundings(pool, token) as environment:
        sight = _look(pool, environment)
        attempt = _submit(pool, environment) if token and sight.schedd_answers else None
    warmer = _warmer(pool, clock) if sight.schedd_answers else None
    yield _collector(pool, sight)
    yield _schedd(pool, sight)
    yield _token(pool, token, why)
    yield _write(pool, attempt)
    yield _address(pool)
    yield _universe(pool, sight)
    site = pool.site
    if site.universe == "container":
        yield source_finding(site)
    if site.network == "nat":
        yield network_finding(site, sight)
    if site.gpus:
        yield gpus_finding(site, sight)
    if site.prepull.nodes:
        yield prepull_finding(pool, sight, warmer)


def examine_registry(store: Store) -> Finding:
    """Say whether the images' registry answers this machine."""
    if not isinstance(store, RegistryClient):
        return Finding(
            "images", "failed", "the images are in an OCI layout, from which no node can pull: name a registry"
        )
    try:
        store.ping()
    except CasabinderError as error:
        return Finding("images", "failed", str(error))
    return Finding("images", "ok", f"the registry {store.registry} answers this machine")


def _look(pool: BatchPool, environment: dict[str, str]) -> Sight:
    from launcher.pools.probe import Sight

    try:
        return Sight.from_json(_ask("look", pool, environment))
    except ProbeError as error:
        return Sight(error=str(error))


def _submit(pool: BatchPool, environment: dict[str, str]) -> Attempt:
    from launcher.pools.probe import Attempt

    # Whoever may submit must have said who they are.
    strict = {
        **environment,
        "_CONDOR_SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "_CONDOR_SEC_CLIENT_ENCRYPTION": "REQUIRED",
    }
    try:
        return Attempt(**_ask("submit", pool, strict))
    except ProbeError as error:
        return Attempt("schedd", error=str(error))


def _warmer(pool: BatchPool, clock: Callable[[], float]) -> Attempt | None:
    """Return how the pool deals with whoever brings images to nodes, if that is somebody else than the pool's user."""
    user = pool.site.prepull.user
    if not pool.site.prepull.nodes or user is None or user == pool.user:
        return None
    from launcher.pools.probe import Attempt

    other = replace(pool, user=user)
    try:
        with surroundings(other, other.token(clock)) as environment:
            return _submit(other, environment)
    except CasabinderError as error:
        return Attempt("collector", error=str(error))


def _ask(what: str, pool: BatchPool, environment: dict[str, str]) -> dict[str, Any]:
    try:
        return ask("launcher.pools.probe", [what, str(pool.site.schedd)], environment, seconds=PROBE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"no answer within {PROBE_SECONDS} s") from error


def _collector(pool: BatchPool, sight: Sight) -> Finding:
    if sight.error:
        return Finding("collector", "failed", f"the collector {pool.site.collector} does not answer: {sight.error}")
    nodes = len({slot.node for slot in sight.slots})
    return Finding("collector", "ok", f"the collector {pool.site.collector} answers; it knows {many(nodes, 'node')}")


def _schedd(pool: BatchPool, sight: Sight) -> Finding:
    name = pool.site.schedd
    if sight.error:
        return Finding("schedd", "skipped", "not looked for, as the collector does not answer")
    if not sight.schedd:
        return Finding("schedd", "failed", f"the collector knows no schedd {name}: correct `pool.schedd`, or start it")
    if not sight.schedd_answers:
        return Finding("schedd", "failed", f"the schedd {name} does not answer, though the collector knows it")
    return Finding("schedd", "ok", f"the schedd {name} answers")


def _token(pool: BatchPool, token: str, why: str) -> Finding:
    if not token:
        return Finding("token", "failed", why)
    hours = f"{pool.seconds / 3600:.1f}".removesuffix(".0")
    key = pool.site.signing_key_id
    return Finding("token", "ok", f"a token of {pool.identity} was made with the key {key}, good for {hours} h")


def _write(pool: BatchPool, attempt: Attempt | None) -> Finding:
    if attempt is None:
        return Finding("write", "skipped", "not tried, as there is no schedd or no token")
    if attempt.reached in ("collector", "schedd"):
        sentence = (
            f"the {attempt.reached} refuses the token of {pool.identity}: `pool.signing_key` must be the pool's key "
            f"{pool.site.signing_key_id}, `pool.trust_domain` its TRUST_DOMAIN, and the clocks must agree"
        )
        logger.info("refused: %s", attempt.error)
        return Finding("write", "failed", sentence)
    if attempt.identity != pool.identity:
        sentence = f"the schedd takes {pool.identity} for {attempt.identity or 'nobody'}: see its CERTIFICATE_MAPFILE"
        return Finding("write", "failed", sentence)
    if attempt.error:
        return Finding("write", "failed", f"the schedd queues no job of {pool.identity}: {attempt.error}")
    if attempt.owner.partition("@")[0] != pool.user:
        return Finding("write", "failed", f"the schedd queues jobs of {pool.identity} as {attempt.owner or 'nobody'}")
    if attempt.administrator:
        sentence = f"the token lets {pool.identity} administrate the schedd: its ALLOW_ADMINISTRATOR is too wide"
        return Finding("write", "failed", sentence)
    return Finding("write", "ok", f"the schedd queues jobs of {pool.identity} as theirs, and lets them do no more")


def _address(pool: BatchPool) -> Finding:
    """Schedulers listen at the pool's ``address``; that nodes reach it can only be seen from them."""
    address, collector = pool.site.address, str(pool.site.collector)
    if address.startswith("127.") and not collector.startswith(("127.", "localhost")):
        sentence = f"nodes can't reach {address}: say in `pool.address` where they reach this machine"
        return Finding("address", "failed", sentence)
    try:
        family, *_, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as trial:
            trial.bind(place)
    except OSError:
        return Finding("address", "failed", f"{address} is no address of this machine: correct `pool.address`")
    return Finding("address", "ok", f"schedulers will listen at {address}, an address of this machine")


def _universe(pool: BatchPool, sight: Sight) -> Finding:
    universe = pool.site.universe
    if sight.error:
        return Finding("universe", "skipped", "not counted, as the collector does not answer")
    if not sight.slots:
        return Finding("universe", "failed", "the pool has no slots: are its execute nodes started?")
    able = [slot for slot in sight.slots if (slot.docker if universe == "docker" else slot.container)]
    if not able:
        sentence = (
            f"none of {many(len(sight.slots), 'slot')} runs the {universe} universe: choose another `pool.universe`"
        )
        return Finding("universe", "failed", sentence)
    cores = many(sum(slot.cpus for slot in able), "core")
    nodes = many(len({slot.node for slot in able}), "node")
    sentence = f"{len(able)} of {many(len(sight.slots), 'slot')} run the {universe} universe: {cores} on {nodes}"
    return Finding("universe", "ok", sentence)
