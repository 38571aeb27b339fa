"""``casabinder launch``, ``ps``, ``logs`` and ``stop``: notebook servers on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.attachments.location import locate
from builder.build import build
from builder.options import BuildOptions
from launcher import docker
from launcher.container import LaunchOptions
from launcher.data_access import DataAccess, credentials_of_user
from launcher.image_labels import image_labels
from launcher.pools.gpus import server_gpus
from launcher.pools.image_source import SessionImage
from launcher.pools.site_pool import BatchPool
from launcher.progress import choose_reporter
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from argparse import Namespace

    from builder.record import ImageRecord
    from launcher.context import Context
    from launcher.servers import Server


def launch(context: Context, arguments: Namespace) -> int:
    """Build the repository's image if need be and start a notebook server from it."""
    if context.facility.registry.startswith("oci:"):
        raise CasabinderError("Docker can't start an image of an OCI layout; launch from a registry")
    batch = BatchPool.of_site(context.site) if (arguments.pool or context.site.pool.kind) == "htcondor" else None
    if batch is None and arguments.gpus:
        raise CasabinderError("--gpus is for workers in an HTCondor pool: see `pool` in site.yaml")
    reporter = choose_reporter(json_logs=arguments.json_logs, quiet=arguments.quiet)
    spec = context.repository(arguments.repo, arguments.ref, arguments.subdir)
    context = context.with_token(arguments.git_token_file, spec)
    say = _say(quiet=arguments.quiet)
    credentials = credentials_of_user({"token": arguments.data_token, "proxy": arguments.data_proxy}, context.site, say)
    record = build(
        spec,
        context.bases(arguments.base),
        context.facility,
        reporter,
        options=BuildOptions(arguments.as_of),
        rebuild=arguments.rebuild,
    )
    limits = context.site.limits
    most, entry = (limits.workers, "limits.workers") if batch is None else (batch.site.maximum, "pool.maximum")
    if arguments.workers > most:
        raise CasabinderError(f"--workers {arguments.workers} is more than the {most} that this site allows ({entry})")
    labels = _labels(context, record)
    if batch is not None and arguments.workers:
        batch = batch.with_gpus(arguments.gpus, labels).for_image(SessionImage.of(record), say)
    options = LaunchOptions(
        workers=arguments.workers,
        cpus=arguments.cpus or limits.cpus,
        memory=arguments.memory or limits.memory,
        port=arguments.port,
        maximum=most,
        gpus=0 if arguments.gpus == 0 else server_gpus(limits.gpus, labels),
        batch=batch,
        data=replace(DataAccess.of_site(context.site), credentials=credentials),
    )
    server = docker.launch(record, options, context.facility.cache, say, new=arguments.new)
    if arguments.json:
        print(json.dumps({"server": server.to_json(), "image": record.to_json()}, indent=2))
    else:
        print(server.address)
        print(f"  server    {server.name} (stop it with: casabinder stop {server.name})")
        print(f"  env_id    {server.env_id}, notebook and {server.workers} Dask workers")
    if arguments.open:
        import webbrowser

        webbrowser.open(server.browser_file.as_uri())
    return 0


def ps(context: Context, arguments: Namespace) -> int:
    """List this user's servers."""
    found = docker.servers(context.facility.cache)
    if arguments.json:
        print(json.dumps([server.to_json() for server in found], indent=2))
        return 0
    if not found:
        print("no notebook server runs here", file=sys.stderr)
        return 0
    rows = [("NAME", "STATE", "WORKERS", "COMMIT", "ADDRESS", "REPOSITORY"), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def logs(context: Context, arguments: Namespace) -> int:
    """Print a server's log."""
    for line in docker.logs(context.facility.cache, arguments.name, follow=arguments.follow, tail=arguments.tail):
        print(line)
    return 0


def stop(context: Context, arguments: Namespace) -> int:
    """Stop servers by name, or all."""
    if not arguments.names and not arguments.all:
        raise CasabinderError("say which server to stop (see `casabinder ps`), or --all")
    stopped = docker.stop(context.facility.cache, None if arguments.all else arguments.names)
    if arguments.json:
        print(json.dumps({"stopped": stopped}))
    else:
        print("\n".join(f"stopped {name}" for name in stopped) or "no notebook server runs here")
    return 0


def _labels(context: Context, record: ImageRecord) -> dict[str, str]:
    """Return the labels of an image, in which its base says what it is made for; asked of sites with GPUs alone."""
    if not context.site.pool.gpus and not context.site.limits.gpus:
        return {}
    with locate(record.image, context.facility) as location:
        return image_labels(location.store, location.repository, location.digest)


def _row(server: Server) -> tuple[str, ...]:
    return (server.name, server.state, str(server.workers), server.commit[:12], server.url or "-", server.repo)


def _say(*, quiet: bool) -> docker.Say:
    def say(sentence: str) -> None:
        if not quiet:
            print(f"{'launch':<9} {sentence}", file=sys.stderr, flush=True)

    return say
