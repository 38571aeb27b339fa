"""``casabinder prepull``: brings an image to the nodes of the site's pool before anybody waits for it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from builder.attachments.location import locate
from builder.build import build
from builder.options import BuildOptions
from launcher.pools.prepull import MOST_NODES, prepull
from launcher.pools.site_pool import BatchPool
from launcher.progress import choose_reporter
from registry_sync.errors import CasabinderError
from registry_sync.reference import ImageReference, is_digest

if TYPE_CHECKING:
    from argparse import Namespace

    from launcher.context import Context


def prepull_image(context: Context, arguments: Namespace) -> int:
    """Bring the image to nodes, say how many have it, and return 1 if one can't have it or none has."""
    pool = BatchPool.of_site(context.site, context.site.pool.prepull.user)
    nodes = arguments.nodes or pool.site.prepull.nodes or MOST_NODES
    image = _image(context, arguments)
    if not arguments.quiet:
        print(f"{'prepull':<9} {image} as {pool.identity}", file=sys.stderr, flush=True)
    tally = prepull(pool, image, nodes)
    if arguments.json:
        print(json.dumps({**asdict(tally), "waiting": tally.waiting}, indent=2))
    else:
        print(tally.sentence)
    return 0 if tally.brought and not tally.failed else 1


def _image(context: Context, arguments: Namespace) -> str:
    """Return the name, by tag, of the image that was named, or of the repository's, which is built if need be."""
    named: str = arguments.repo
    if named.startswith(f"{context.facility.registry}/"):
        if is_digest(ImageReference.parse(named).reference):
            raise CasabinderError(f"HTCondor can't keep an image that is named by digest: name {named} by its tag")
        with locate(named, context.facility):
            return named
    spec = context.repository(named, arguments.ref, arguments.subdir)
    context = context.with_token(arguments.git_token_file, spec)
    reporter = choose_reporter(json_logs=arguments.json_logs, quiet=arguments.quiet)
    bases, options = context.bases(arguments.base), BuildOptions(arguments.as_of)
    return build(spec, bases, context.facility, reporter, options=options, rebuild=arguments.rebuild).image
