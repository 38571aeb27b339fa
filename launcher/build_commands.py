"""``casabinder build``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.build import build, dry_run
from builder.options import BuildOptions
from builder.sizes import readable
from launcher.progress import choose_reporter

if TYPE_CHECKING:
    from argparse import Namespace

    from builder.build import Prepared
    from builder.record import ImageRecord
    from launcher.context import Context


def build_image(context: Context, arguments: Namespace) -> int:
    """Build a repository's image and print its record."""
    reporter = choose_reporter(json_logs=arguments.json_logs, quiet=arguments.quiet)
    spec = context.repository(arguments.repo, arguments.ref, arguments.subdir)
    context = context.with_token(arguments.git_token_file, spec)
    bases = context.bases(arguments.base)
    options = BuildOptions(arguments.as_of)
    if arguments.dry_run:
        _print_plan(dry_run(spec, bases, context.facility, reporter, options=options), as_json=arguments.json)
        return 0
    record = build(spec, bases, context.facility, reporter, options=options, rebuild=arguments.rebuild)
    if arguments.json:
        print(json.dumps(record.to_json(), indent=2))
    else:
        print_record(record)
    return 0


def print_record(record: ImageRecord) -> None:
    """Print what a person wants to know of a record."""
    packages, counts = record.packages, record.bytes
    state = "nothing had to be made" if record.cached else f"{readable(counts['uploaded'])} uploaded"
    print(f"{record.image}")
    print(f"  digest    {record.digest}")
    print(f"  env_id    {record.env_id}")
    print(f"  base      {record.base.name} (Python {record.base.python})")
    print(
        f"  packages  {packages['from_base']} from the base, {packages['added']} added, {packages['replaced']} replaced"
    )
    print(
        f"  size      {readable(counts['total'])}, {readable(counts['new'])} of it above the base; "
        f"{state} in {record.seconds['total']:.1f} s"
    )


def _print_plan(prepared: Prepared, *, as_json: bool) -> None:
    report = prepared.report
    if as_json:
        document = {
            "commit": prepared.commit.id,
            "env_id": prepared.plan.env_id,
            "image_id": prepared.plan.image_id,
            "base": prepared.plan.base.digest,
            "file": prepared.spec.file,
            "packages": prepared.plan.lock.report(),
            "report": report.to_json(),
            "layers": prepared.plan.whats,
        }
        print(json.dumps(document, indent=2))
        return
    print(
        f"{prepared.commit.spec.public_url} at {prepared.commit.id[:12]}, decided by {prepared.spec.file or 'no file'}"
    )
    print(report.to_text())
    print(f"env_id: {prepared.plan.env_id}")
