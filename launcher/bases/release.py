"""Releases bases: build, try, tag, move a channel; and the ways between channels.

::

    definition -build-> image -smoke test-> notes beside it -> dated tag -> channel
                                  |
                                  fails: no tag is set or moved

A digest is tried once: what was tried is these bytes, and a promotion does not change them. So a promotion takes the
result that is stored beside the image, unless it is to be tried again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from base_images.assemble import accept_base, build_base
from builder.attachments.difference import compare_images
from builder.attachments.inspection import inspect
from builder.attachments.location import Location
from builder.base import load_base
from launcher.bases.history import CHANNELS
from launcher.bases.ledger import Ledger
from launcher.bases.smoke import read_exceptions
from launcher.bases.smoke_container import smoke_test_base
from launcher.ci.smoke_container import engine_is_missing
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.attachments.difference import PackageChange
    from builder.base import Base
    from launcher.bases.history import History, Release
    from launcher.bases.smoke import BaseSmokeReport
    from launcher.context import Context
    from launcher.site_config import Channel

    Say = Callable[[str], None]

_DEBIAN = "Debian"


@dataclass(frozen=True)
class Released:
    """What came of a release or a promotion.

    ``before`` is the tag that the channel named before (``""``: none); ``new`` says whether the release was made just
    now; ``faults`` are the sentences of a smoke test that failed, and then nothing else was done.
    """

    name: str
    channel: str
    tag: str = ""
    digest: str = ""
    before: str = ""
    new: bool = False
    changes: str = ""
    smoke_test: str = ""
    faults: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


class Releases:
    """The releases of one base of the catalogue at a site; ``say`` is told what is done, a sentence at a time."""

    def __init__(self, context: Context, name: str, say: Say, clock: Callable[[], float] = time.time) -> None:
        self._context = context
        self._definition = context.definition(name)
        self._name = name
        self._say = say
        self._repository = context.base_repository(name)
        self.ledger = Ledger(context.facility.store, self._repository, clock)

    def release(self, channel: Channel, *, refresh: bool = False, address: str = "") -> Released:
        """Build the base, try it, make a release of it and move a channel to it.

        An image that was released before is not tried again and keeps its tag, as for :meth:`promote`. ``address`` is
        of a file to read over XRootD while it is tried.
        """
        self._need_engine()
        facility = self._context.facility
        record = build_base(
            self._definition,
            self._context.workshop,
            facility.store,
            facility.registry,
            facility.prefix,
            refresh=refresh,
            on_trial=True,
            say=self._say,
        )
        history = self.ledger.history()
        known = history.find(record.digest)
        if known is not None:
            done = self._take(history, known, channel, again=False, address=address)
        else:
            done = self._make(history, record.digest, channel, address)
        if not done.faults:
            accept_base(record, facility.store)
        return done

    def promote(self, source: str, channel: Channel, *, again: bool = False, address: str = "") -> Released:
        """Have a channel name the release that ``source``, a channel or a release's tag, names.

        ``again`` tries it once more; an address to read from over XRootD does as well.
        """
        history = self.ledger.history()
        made = history.now(source) or history.find(source)
        if made is None:
            raise CasabinderError(
                f"{self._name}: {source} names no release; `casabinder base releases {self._name}` lists what there is"
            )
        return self._take(history, made, channel, again=again, address=address)

    def back(self, channel: Channel, tag: str = "") -> tuple[Release, Release]:
        """Have a channel name the release before, or one of a tag; return what it named and what it names now."""
        before, target = self.ledger.back(channel, tag)
        self._context.channels.forget(self._repository)
        return before, target

    def rows(self) -> list[dict[str, Any]]:
        """Return the releases, the newest first, each with the channels that name it now and that went back from it."""
        history, channels = self.ledger.history(), {}
        for channel in CHANNELS:
            there = self._context.facility.store.head_manifest(self._repository, channel)
            channels[channel] = there.digest if there else ""
        return [
            {
                **asdict(made),
                "name": self._name,
                "channels": [name for name, digest in channels.items() if digest == made.digest],
                "rolled_back": [name for name in channels if made.digest in history.rolled_back(name)],
            }
            for made in reversed(history.releases)
        ]

    def _make(self, history: History, digest: str, channel: Channel, address: str) -> Released:
        """Make a release of an image that never was one."""
        report = self._try(digest, address)
        if not report.passed:
            return Released(self._name, channel, smoke_test=report.summary, faults=tuple(report.faults))
        before = history.now(channel) or (history.releases[-1] if history.releases else None)
        changes = self._changes(before, digest)
        self._note(digest, report, before, changes)
        made = self.ledger.release(digest, in_short(changes, since=before is not None), report.summary)
        return self._moved(channel, made, new=True)

    def _take(self, history: History, made: Release, channel: Channel, *, again: bool, address: str) -> Released:
        """Have a channel name what was released before."""
        if made.digest in history.rolled_back(channel):
            raise CasabinderError(
                f"{self._name}: {channel} was rolled back from {made.tag}, and this is the same image: change the "
                f"definition, or fetch Debian anew with --refresh; `casabinder base rollback {self._name} --channel "
                f"{channel} --to {made.tag}` puts it back as it is"
            )
        if again or address or not self._passed(made):
            self._need_engine()
            report = self._try(made.digest, address)
            stored = json.loads(self.ledger.notes(made.digest) or b"{}")
            self._attach(made.digest, {**stored, "smoke_test": report.to_json()})
            if not report.passed:
                faults = tuple(report.faults)
                return Released(self._name, channel, made.tag, made.digest, smoke_test=report.summary, faults=faults)
        self.ledger.release(made.digest, made.changes, made.smoke_test)  # its tag, if that was interrupted
        return self._moved(channel, made, new=False)

    def _need_engine(self) -> None:
        missing = engine_is_missing(self._context.facility.containers)
        if missing:
            raise CasabinderError(f"a base is released only after it was tried in a container: {missing}")

    def _try(self, digest: str, address: str) -> BaseSmokeReport:
        exceptions = read_exceptions(self._definition.directory)
        context = self._context
        return smoke_test_base(
            self._load(digest), context.facility, context.site.limits, exceptions, address, self._say
        )

    def _load(self, digest: str) -> Base:
        facility = self._context.facility
        return load_base(facility.store, facility.registry, self._repository, digest, facility.cache)

    def _passed(self, made: Release) -> bool:
        """Whether the image's notes say that it passed its smoke test."""
        notes = self.ledger.notes(made.digest)
        return notes is not None and json.loads(notes)["smoke_test"]["passed"] is True

    def _note(
        self, digest: str, report: BaseSmokeReport, before: Release | None, changes: Sequence[PackageChange]
    ) -> None:
        """Put beside the image what is known of the release."""
        notes = {
            "name": self._name,
            "digest": digest,
            "since": {"tag": before.tag, "digest": before.digest} if before else None,
            "changes": [asdict(change) for change in changes],
            "smoke_test": report.to_json(),
        }
        self._attach(digest, notes)

    def _attach(self, digest: str, notes: dict[str, Any]) -> None:
        self.ledger.attach_notes(digest, json.dumps(notes, indent=1).encode())

    def _changes(self, before: Release | None, digest: str) -> tuple[PackageChange, ...]:
        """Return the packages that are not as they were in a release; none if there was none."""
        if before is None:
            return ()
        facility = self._context.facility
        old, new = (
            inspect(
                Location(
                    facility.store,
                    facility.registry,
                    self._repository,
                    facility.store.get_manifest(self._repository, one),
                ),
                facility.cache,
            )
            for one in (before.digest, digest)
        )
        return compare_images(old, new).packages

    def _moved(self, channel: Channel, made: Release, *, new: bool) -> Released:
        before = self.ledger.history().now(channel)
        self.ledger.move(channel, made)
        self._context.channels.forget(self._repository)
        return Released(
            self._name,
            channel,
            made.tag,
            made.digest,
            before.tag if before else "",
            new,
            made.changes,
            made.smoke_test,
        )


def in_short(changes: Sequence[PackageChange], *, since: bool) -> str:
    """Return how many packages changed, by environment; ``since`` says whether there was anything before."""
    if not since:
        return "the first release"
    counts = Counter(_DEBIAN if change.environment == "system" else change.environment for change in changes)
    listed = ", ".join(f"{counts[name]} {name}" for name in ("analysis", "server", _DEBIAN) if counts[name])
    return f"packages changed: {listed}" if listed else "no package changed"
