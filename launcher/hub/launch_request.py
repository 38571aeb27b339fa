"""Makes the request for a server: the hub's names for user and server, options within the site's limits."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from builder.container.foreign_image import WORKERS_ANNOTATION
from launcher.container import LaunchOptions, image_name, parse_memory
from launcher.hub.vouching import LaunchRequest
from launcher.pools.site_pool import WorkerLimits, not_a_user
from launcher.refusal import RefusedError
from launcher.security.idtokens import is_user
from registry_sync.errors import CasabinderError
from registry_sync.manifest import canonical_json
from registry_sync.reference import ImageReference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.record import ImageRecord
    from launcher.hub.launch import Origin
    from launcher.security.principal import Principal
    from launcher.site_config import Site

_LONGEST_SLUG = 20  # with 8 digits and a hyphen behind it, a server's name may have 30 characters


def bounded(options: LaunchOptions, site: Site) -> LaunchOptions:
    """Return the options with the number of workers that the session may scale to.

    Raises :class:`RefusedError` for more than the site allows, and for workers that the memory is not enough for.
    """
    limits = site.limits
    try:
        memory, most_memory = parse_memory(options.memory), parse_memory(limits.memory)
    except CasabinderError as error:
        raise RefusedError(str(error)) from error
    if not 0 < options.cpus <= limits.cpus:
        raise RefusedError(f"{options.cpus:g} processors were asked for, and this site gives up to {limits.cpus:g}")
    if memory > most_memory:
        raise RefusedError(f"{options.memory} of memory were asked for, and this site gives up to {limits.memory}")
    workers = WorkerLimits.of_site(site, memory)
    if not 0 <= options.workers <= workers.most:
        raise RefusedError(f"{options.workers} Dask workers were asked for, and this site gives up to {workers.most}")
    if options.workers > workers.fitting:
        sentence = f"{options.memory} of memory is enough for {workers.fitting} Dask workers, not for {options.workers}"
        raise RefusedError(sentence)
    return replace(options, maximum=min(options.maximum or workers.most, workers.maximum))


def without_workers_if_foreign(
    options: LaunchOptions, record: ImageRecord, annotations: Mapping[str, str]
) -> tuple[LaunchOptions, str]:
    """Return the options, without workers if the image of a ``Dockerfile`` can't run them, and what to say then."""
    if options.workers == 0 or annotations.get(WORKERS_ANNOTATION, "yes") == "yes":
        return options, ""
    said = f"the image that {record.base.reference} makes can't run Dask workers: the server starts without"
    return replace(options, workers=0, maximum=0), said


def make_request(
    record: ImageRecord, options: LaunchOptions, principal: Principal, origin: Origin, site: Site
) -> LaunchRequest:
    """Return the request for a server of ``record``; its id is for the start that comes first.

    Temporary servers have a user each; people who log in have servers whose names follow from image and options.
    """
    slug = slug_of(record)
    if site.hub.mode == "anonymous":
        user, server = f"{slug}-{secrets.token_hex(4)}", ""
    elif principal.kind == "user":
        user, server = principal.name, f"{slug}-{server_key(record, options)}"
        if options.workers and site.pool.kind == "htcondor" and not is_user(user):
            raise RefusedError(not_a_user(user))
    else:
        raise RefusedError("log in to launch: servers here belong to people", 403)
    return LaunchRequest(
        id=new_id(),
        user=user,
        server=server,
        mode=site.hub.mode,
        image=image_name(record),
        tag=record.image,
        digest=record.digest,
        env_id=record.env_id,
        image_id=record.image_id,
        repo=record.repo,
        ref=record.ref,
        commit=record.commit,
        cpus=options.cpus,
        memory=parse_memory(options.memory),
        workers=options.workers,
        most_workers=options.most_workers,
        gpus=options.gpus,
        environment=origin.environment(),
    )


def slug_of(record: ImageRecord) -> str:
    """Return the repository's short name: its part of the image's name, without the hash, as JupyterHub wants the
    beginning of a server's name (a letter first, then letters, digits and single hyphens)."""
    name = ImageReference.parse(record.image).repository.rpartition("/")[2].rpartition("-")[0]
    slug = re.sub("[^a-z0-9]+", "-", name).strip("-") or "repository"
    return (slug if slug[0].isalpha() else f"r-{slug}")[:_LONGEST_SLUG].rstrip("-")


def server_key(record: ImageRecord, options: LaunchOptions) -> str:
    """Return eight hex digits that are equal for equal launches: image, commit and options."""
    what = [record.digest, record.commit, {**asdict(options), "environment": dict(options.environment)}]
    return hashlib.sha256(canonical_json(what)).hexdigest()[:8]


def new_id() -> str:
    """Return an id that nobody can guess."""
    return secrets.token_hex(16)
