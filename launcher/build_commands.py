"""``casabinder build`` and ``casabinder verify``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from builder.build import build, dry_run
from builder.repository import RepoSpec
from launcher.progress import choose_reporter

if TYPE_CHECKING:
    from argparse import Namespace

    from builder.build import Prepared
    from builder.record import ImageRecord
    from launcher.context import Context


def build_image(context: Context, arguments: Namespace) -> int:
    """Build a repository's image and print its record."""
    reporter = choose_reporter(json_logs=arguments.json_logs, quiet=arguments.quiet)
    spec = RepoSpec(arguments.repo, arguments.ref, arguments.subdir)
    bases = context.bases(arguments.base)
    if arguments.dry_run:
        _print_plan(dry_run(spec, bases, context.facility, reporter), as_json=arguments.json)
        return 0
    record = build(spec, bases, context.facility, reporter, rebuild=arguments.rebuild)
    if arguments.json:
        print(json.dumps(record.to_json(), indent=2))
    else:
        print_record(record)
    return 0


def print_record(record: ImageRecord) -> None:
    """Print what a person wants to know of a record."""
    packages, counts = record.packages, record.bytes
    state = "nothing had to be made" if record.cached else f"{counts['uploaded'] / 1e6:.1f} MB uploaded"
    print(f"{record.image}")
    print(f"  digest    {record.digest}")
    print(f"  env_id    {record.env_id}")
    print(f"  base      {record.base.name} (Python {record.base.python})")
    print(
        f"  packages  {packages['from_base']} from the base, {packages['added']} added, {packages['replaced']} replaced"
    )
    print(
        f"  size      {counts['total'] / 1e6:.0f} MB, {counts['new'] / 1e6:.1f} MB of it above the base; "
        f"{state} in {record.seconds['total']:.1f} s"
    )


def _print_plan(prepared: Prepared, *, as_json: bool) -> None:
    lock = prepared.plan.lock
    added = [(package.name, "", package.version, package.size) for package in lock.added]
    replaced = [(new.name, old.version, new.version, new.size) for old, new in lock.replaced]
    if as_json:
        document = {
            "commit": prepared.commit.id,
            "env_id": prepared.plan.env_id,
            "image_id": prepared.plan.image_id,
            "base": prepared.plan.base.digest,
            "file": prepared.spec.file,
            "packages": lock.report(),
            "added": [{"name": name, "version": new, "bytes": size} for name, _, new, size in added],
            "replaced": [{"name": name, "from": old, "to": new, "bytes": size} for name, old, new, size in replaced],
            "removed": [{"name": package.name, "version": package.version} for package in lock.removed],
            "layers": prepared.plan.whats,
        }
        print(json.dumps(document, indent=2))
        return
    counts = lock.report()
    print(
        f"{prepared.commit.spec.public_url} at {prepared.commit.id[:12]}, decided by {prepared.spec.file or 'no file'}"
    )
    print(f"  from the base  {counts['from_base']} packages")
    for name, _, new, size in added:
        print(f"  added          {name} {new}  ({size / 1e6:.1f} MB)")
    for name, old, new, size in replaced:
        print(f"  replaces       {name} {old} -> {new}  ({size / 1e6:.1f} MB)")
    for package in lock.removed:
        print(f"  removed        {package}")
    print(f"  env_id         {prepared.plan.env_id}")


def verify_image(context: Context, arguments: Namespace) -> int:
    """Make an image again from what is stored with it and compare the digests."""
    from builder.verify import verify

    reporter = choose_reporter(json_logs=False, quiet=arguments.json)
    with tempfile.TemporaryDirectory(prefix="casabinder-verify-") as scratch:
        stored, made = verify(arguments.image, context.facility, Path(scratch), reporter)
    same = stored == made
    if arguments.json:
        print(json.dumps({"image": arguments.image, "stored": stored, "made": made, "reproduced": same}, indent=2))
    elif same:
        print(f"{arguments.image} was made again, byte for byte: {stored}")
    else:
        print(f"{arguments.image} could not be reproduced: the registry has {stored}, and {made} came out")
    return 0 if same else 1
