"""``casabinder rebase``: puts one image onto another base, or with ``--all`` every image in use."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import builder.rebase
from builder.rebase import NewBase
from builder.rebase_all import Outcome, State, Wishes, rebase_all
from builder.sizes import readable
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from registry_sync.reference import validate_repository

if TYPE_CHECKING:
    from argparse import Namespace

    from builder.facility import BaseChoice
    from launcher.context import Context
    from registry_sync.transport import Traffic


def rebase(context: Context, arguments: Namespace) -> int:
    """Do what is asked for: one image, or all."""
    if arguments.all:
        return rebase_every_image(context, arguments)
    if len(arguments.images) != 1 or arguments.dry_run or arguments.since or arguments.repositories != "*":
        raise CasabinderError("give one image, without --dry-run, --since and --repositories; or --all")
    return rebase_one_image(context, arguments)


def rebase_one_image(context: Context, arguments: Namespace) -> int:
    """Put an image onto another base without building it, and print the new record."""
    from launcher.build_commands import print_record

    choice = _chosen_base(context, arguments.images[0], arguments.base)
    record = builder.rebase.rebase(arguments.images[0], choice, context.facility, bases=context.bases())
    if arguments.json:
        print(json.dumps(record.to_json(), indent=2))
    else:
        print_record(record)
    return 0


def rebase_every_image(context: Context, arguments: Namespace) -> int:
    """Move all images in use, print a summary, and return 1 if any failed; one that needs a rebuild did not fail."""
    began = time.monotonic()
    facility, bases = context.facility, context.bases()
    targets = [NewBase(offer.choice, facility, bases) for offer in context.bases(arguments.base).offers]
    wishes = Wishes(
        tuple(validate_repository(name) for name in arguments.images),
        arguments.repositories,
        checked_day(arguments.since) if arguments.since else "",
        arguments.dry_run,
    )
    outcomes = rebase_all(targets, facility, wishes, at_once=max(1, arguments.at_once), say=_say)
    store = facility.store
    traffic = store.traffic if isinstance(store, RegistryClient) else None
    summary = Summary(tuple(outcomes), arguments.dry_run, round(time.monotonic() - began, 1), traffic)
    if arguments.json:
        print(json.dumps({"bases": [_described(target) for target in targets], **summary.to_json()}, indent=2))
    else:
        print(summary.to_text())
    return 1 if summary.count("failed") else 0


def _chosen_base(context: Context, image: str, stated: str) -> BaseChoice:
    """Return the base that was named; of a channel, what it names of the base that the image is on."""
    from builder.attachments.location import locate
    from builder.record import read_records

    bases = context.bases(stated)
    if bases.stated:
        return bases.offers[0].choice
    with locate(image, context.facility) as location:
        name = read_records(location.store, location.repository, location.digest)[0].base.name
    for offer in bases.offers:
        if offer.name == name:
            return offer.choice
    raise CasabinderError(f"{image} is on {name}, of which the channel {stated} names no release; name a base")


@dataclass(frozen=True)
class Summary:
    """What became of all images, in which time; ``traffic`` is what the registry was asked, if there is one."""

    outcomes: tuple[Outcome, ...]
    dry_run: bool
    seconds: float
    traffic: Traffic | None

    def count(self, state: State) -> int:
        """Return how many images came to a state."""
        return sum(outcome.state == state for outcome in self.outcomes)

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {
            "dry_run": self.dry_run,
            **{state: self.count(state) for state in get_args(State)},
            "seconds": self.seconds,
            "requests": self.traffic.requests if self.traffic else None,
            "sent": self.traffic.sent if self.traffic else None,
            "images": [asdict(outcome) for outcome in self.outcomes],
        }

    def to_text(self) -> str:
        """Return what a person reads: what needs hands, then the counts."""
        lines = []
        for state, title in (("failed", "failed:"), ("rebuild", "to be built again:")):
            found = [outcome for outcome in self.outcomes if outcome.state == state]
            lines += [title] if found else []
            lines += [f"  {one.repo or one.repository} {one.commit[:12]}  {one.reason}" for one in found]
        words: dict[State, str] = {
            "moved": "would move" if self.dry_run else "moved",
            "already": "already there",
            "rebuild": "to be built again",
            "failed": "failed",
        }
        counts = [f"{title} {self.count(state)}" for state, title in words.items()]
        others: dict[State, str] = {"superseded": "superseded", "older": "older", "left": "on other bases"}
        counts += [f"{self.count(state)} {title}" for state, title in others.items() if self.count(state)]
        spent = f"{self.seconds} s"
        if self.traffic:
            spent += f", {self.traffic.requests} requests, {readable(self.traffic.sent)} sent"
        return "\n".join([*lines, f"{', '.join(counts)} ({spent})"])


def _described(target: NewBase) -> dict[str, str]:
    return {"name": target.base.inventory.name, "image": str(target.choice), "digest": target.base.digest}


def checked_day(text: str) -> str:
    """Return a day (``2026-1-31``, too) as records begin with it; raise :class:`CasabinderError` for anything else."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date().isoformat()
    except ValueError as error:
        raise CasabinderError(f"--since {text!r} is no day; give it as 2026-01-31") from error


def _say(outcome: Outcome, number: int, total: int) -> None:
    name = f"{outcome.repo or outcome.repository} {outcome.commit[:12]}".rstrip()
    print(f"{number}/{total} {outcome.state:<10} {name}", file=sys.stderr, flush=True)
