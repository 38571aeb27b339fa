"""``casabinder inspect``, ``diff`` and ``verify``: what is known of images that are there."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from builder.sizes import readable
from launcher.progress import choose_reporter

if TYPE_CHECKING:
    from argparse import Namespace

    from builder.attachments.difference import Difference
    from builder.attachments.inspection import Inspection
    from builder.attachments.sbom import Contents
    from launcher.context import Context

_ORIGINS = (("added", "added"), ("replaced", "replaces the base's"))


def inspect_image(context: Context, arguments: Namespace) -> int:
    """Show what an image or a base is, or print one of its documents as it is stored."""
    from builder.attachments.inspection import DOCUMENTS, inspect, read_document
    from builder.attachments.location import locate

    with locate(arguments.image, context.facility) as location:
        for name in DOCUMENTS:
            if getattr(arguments, name):
                sys.stdout.buffer.write(read_document(location, name))
                sys.stdout.buffer.flush()
                return 0
        found = inspect(location, context.facility.cache)
    if arguments.json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        _print_inspection(found)
    return 0


def _print_inspection(found: Inspection) -> None:
    stated = found.contents
    print(found.name)
    print(f"  digest        {found.digest}")
    if found.is_base:
        print(f"  base          {stated.base_name} (Python {stated.python}); it carries an inventory")
    else:
        newest = found.records[0]
        print(f"  env_id        {stated.env_id}")
        print(f"  image_id      {newest.image_id}")
        print(f"  base          {stated.base_name} (Python {stated.python}), {newest.base.reference}")
        if stated.base_digest:
            print(f"                {stated.base_digest}")
        for record in found.records:
            print(f"  built from    {record.repo} {record.ref}, commit {record.commit[:12]}, {record.created}")
        print(f"  reproducible  {_reproducible(found)}")
    signed = ", ".join(found.signed_by)
    print(f"  signed by     {f'key {signed} (check it with `casabinder verify --key`)' if signed else 'nobody'}")
    if found.is_base or stated.base_digest:
        _print_packages(stated)
    else:
        print("  packages      not looked at: the image was made by its own Dockerfile")
    _print_layers(found)
    print("  attached")
    for kind, digest, commit in found.attachments:
        print(f"                {digest[7:19]}  {kind}{f'  for {commit[:12]}' if commit else ''}")


def _print_packages(stated: Contents) -> None:
    analysis, server, system = (stated.of(name) for name in ("analysis", "server", "system"))
    print(f"  packages      {len(analysis)} for the analysis, {len(server)} for the server, {len(system)} of Debian")
    for origin, word in _ORIGINS:
        for one in analysis.values():
            if one.origin == origin:
                print(f"                {word} {one.name} {one.version}")
    for name in stated.removed:
        print(f"                removed {name}")


def _print_layers(found: Inspection) -> None:
    of_base = {} if found.is_base else {one.digest: one.what for one in found.records[0].layers if one.source == "base"}
    below = [size for digest, size, _ in found.layers if digest in of_base]
    print(f"  layers        {len(found.layers)}, {readable(sum(size for _, size, _ in found.layers))}")
    if below:
        print(f"                {readable(sum(below)):>8}  {len(below)} layers of {', '.join(set(of_base.values()))}")
    for digest, size, what in found.layers:
        if digest not in of_base:
            print(f"                {readable(size):>8}  {digest[7:19]}  {what[:80]}")


def _reproducible(found: Inspection) -> str:
    if found.reproducible:
        return "yes: lock, base and commit decide every byte"
    return "no: commands of the repository were run in a container while it was built"


def diff_images(context: Context, arguments: Namespace) -> int:
    """Say what changed between two images; the exit status is 0 when they are one image, 1 when they differ."""
    from builder.attachments.difference import compare_images
    from builder.attachments.inspection import inspect
    from builder.attachments.location import locate

    with ExitStack() as stack:
        before, after = (
            inspect(stack.enter_context(locate(image, context.facility)), context.facility.cache)
            for image in (arguments.before, arguments.after)
        )
    difference = compare_images(before, after)
    if arguments.json:
        print(json.dumps(difference.to_json(), indent=2))
    else:
        _print_difference(difference)
    return 0 if difference.equal else 1


def _print_difference(difference: Difference) -> None:
    if difference.equal:
        print("the two are one image")
        return
    for name, pair in (("base", difference.base), ("Python", difference.python)):
        if pair:
            print(f"{name}: {pair[0]} -> {pair[1]}")
    print(f"repository's files: {'changed' if difference.tree else 'the same'}")
    for change in difference.packages:
        where = "" if change.environment == "analysis" else f"  ({change.environment})"
        if not change.before:
            print(f"+ {change.name} {change.after}{where}")
        elif not change.after:
            print(f"- {change.name} {change.before}{where}")
        elif change.before == change.after:
            print(f"~ {change.name} {change.after}, another artifact{where}")
        else:
            print(f"~ {change.name} {change.before} -> {change.after}{where}")
    if not difference.packages:
        print("packages: the same")


def verify_image(context: Context, arguments: Namespace) -> int:
    """Make an image again from what is stored with it, compare the digests, and check what goes with it."""
    from builder.attachments.location import locate
    from builder.record import read_records
    from builder.repository.spec import RepoSpec
    from builder.verify import verify

    if arguments.git_token_file:
        with locate(arguments.image, context.facility) as location:
            record = read_records(location.store, location.repository, location.digest)[0]
        context = context.with_token(arguments.git_token_file, RepoSpec(record.repo))
    reporter = choose_reporter(json_logs=False, quiet=arguments.json)
    with tempfile.TemporaryDirectory(prefix="casabinder-verify-") as scratch:
        found = verify(arguments.image, context.facility, Path(scratch), reporter, key=arguments.key)
    if arguments.json:
        print(json.dumps(found.to_json(), indent=2))
        return 0 if found.passed else 1
    if found.signed_by:
        print(f"{arguments.image} is signed with the key {found.signed_by}")
    for fault in found.faults:
        print(f"{arguments.image}: {fault}")
    if not found.made:
        print(f"{arguments.image} was not made again: {found.why}")
        print(f"what goes with it is {'complete' if not found.faults else 'not complete'}: {found.stored}")
    elif found.reproduced:
        print(f"{arguments.image} was made again, byte for byte: {found.stored}")
    else:
        print(f"{arguments.image} could not be reproduced: {found.stored} is stored, and {found.made} came out")
        for layer in found.differences:
            place = "the configuration" if layer.position < 0 else f"layer {layer.position} ({layer.what})"
            print(f"  {place}: {layer.stored or 'none'} is stored, and {layer.made or 'none'} came out")
    return 0 if found.passed else 1
