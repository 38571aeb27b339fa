"""``casabinder base release``, ``base rollback`` and ``base releases``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from base_images.definition import catalogue
from launcher.bases.release import Released, Releases
from launcher.bases.smoke import checked_address
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from argparse import Namespace

    from launcher.context import Context


def release_bases(context: Context, arguments: Namespace) -> int:
    """Release bases, or have a channel name what another one does; exit status 1 if a smoke test failed."""
    address = checked_address(arguments.xrootd) if arguments.xrootd else ""
    if arguments.source and arguments.refresh:
        raise CasabinderError("--from releases nothing anew, so there is nothing to --refresh: leave one of them out")
    if arguments.again and not arguments.source:
        raise CasabinderError("--test-again is for --from: an image that was not released before is always tried")
    done = []
    names = arguments.names or [context.site.base]
    for name in names:
        try:
            one = _released(context, name, arguments, address)
        except CasabinderError as error:
            if len(names) == 1:
                raise
            one = Released(name, arguments.channel, faults=(str(error),))  # the others may work
        done.append(one)
        for fault in one.faults:
            print(f"casabinder: {name}: {fault}", file=sys.stderr)
        if not arguments.json:
            print(_sentence(one))
    if arguments.json:
        print(json.dumps([one.to_json() for one in done], indent=2))
    return 1 if any(one.faults for one in done) else 0


def _released(context: Context, name: str, arguments: Namespace, address: str) -> Released:
    releases = Releases(context, name, lambda text: _say(name, text))
    if arguments.source:
        return releases.promote(arguments.source, arguments.channel, again=arguments.again, address=address)
    return releases.release(arguments.channel, refresh=arguments.refresh, address=address)


def roll_back_base(context: Context, arguments: Namespace) -> int:
    """Have a channel name the release before, or one of a tag."""
    releases = Releases(context, arguments.name, lambda text: _say(arguments.name, text))
    before, target = releases.back(arguments.channel, arguments.to)
    if arguments.json:
        document = {"name": arguments.name, "channel": arguments.channel}
        print(json.dumps({**document, "before": asdict(before), "now": asdict(target)}, indent=2))
    else:
        print(f"{arguments.name}: {arguments.channel} names {target.tag} again, and no longer {before.tag}")
        print(f"  {target.digest}")
    return 0


def list_releases(context: Context, arguments: Namespace) -> int:
    """List the releases of a base, or of all of the catalogue, the newest first."""
    names = [arguments.name] if arguments.name else sorted(catalogue(context.catalogues))
    found = {name: Releases(context, name, lambda _: None).rows() for name in names}
    if arguments.json:
        print(json.dumps([row for rows in found.values() for row in rows], indent=2))
        return 0
    for name, rows in found.items():
        print(name if rows else f"{name}: no release yet; make one with: casabinder base release {name}")
        for line in table(rows):
            print(f"  {line}")
    return 0


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines that a person reads: tag, date, digest, channels, smoke test, what changed."""
    cells = [
        (
            row["tag"],
            row["at"][:16].replace("T", " "),
            row["digest"][7:19],
            ", ".join([*row["channels"], *(f"rolled back from {name}" for name in row["rolled_back"])]),
            row["smoke_test"],
            row["changes"],
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(6)] if cells else []
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _sentence(one: Released) -> str:
    if one.faults:
        what = f"{one.tag} fails its smoke test" if one.tag else "not released"
        return f"{one.name}: {what}{f' ({one.smoke_test})' if one.smoke_test else ''}; no tag was set or moved"
    moved = f"{one.channel} names it" if one.before != one.tag else f"{one.channel} named it already"
    instead = f", and {one.before} no longer" if one.before not in ("", one.tag) else ""
    made = f"released ({one.changes}; {one.smoke_test})" if one.new else "was released before"
    return f"{one.name}:{one.tag} {made}; {moved}{instead}\n  {one.digest}"


def _say(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr, flush=True)
