"""What has happened to a base's releases, as data: which there are, what a channel names, where a way back leads.

The history is a list of events that only ever grows. A channel is a stack of releases that its events build up::

    move 2026.11.23      [23]
    move 2026.11.30      [23, 30]
    move 2026.12.07      [23, 30, 07]
    back to 2026.11.30   [23, 30]          07 is rolled back
    back to 2026.11.23   [23]              30 as well: the second way back leads further
    move 2026.12.08      [23, 08]

The last one of the stack is what the channel names, and a way back leads to the one below it.

No registry sets a tag on the condition that it is free. So whoever wants to make a release claims its tag first: an
event that is added and then read back together with those of others. Who finds another image's claim on the tag takes
the next one; of two who claim a tag at once, at most one goes on with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from launcher.site_config import Channel
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Kind = Literal["claim", "release", "move", "back"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)

_ANNOTATION = "org.casabinder.release."
_TAG = re.compile(r"(?P<day>\d{4}\.\d{2}\.\d{2})(-(?P<number>[1-9]\d*))?")
_CLOCK = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Event:
    """One thing that happened, at ``at`` (UTC, RFC 3339): a release's tag was claimed, the release was made, a channel
    was moved on or back.

    ``changes`` and ``smoke_test`` are short texts for people, of a release only; ``channel`` is of moves.
    """

    kind: Kind
    at: str
    tag: str
    digest: str
    channel: str = ""
    changes: str = ""
    smoke_test: str = ""

    def annotations(self) -> dict[str, str]:
        """Return the event as annotations of a manifest."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {_ANNOTATION + name.replace("_", "-"): value for name, value in values.items() if value}

    @classmethod
    def read(cls, annotations: Mapping[str, str]) -> Event | None:
        """Return the event in a manifest's annotations, ``None`` if they hold none that this version knows."""
        values = {one.name: annotations.get(_ANNOTATION + one.name.replace("_", "-"), "") for one in fields(cls)}
        try:
            datetime.strptime(values["at"], _CLOCK).replace(tzinfo=UTC)
        except ValueError:
            return None
        if values["kind"] not in get_args(Kind) or not is_release_tag(values["tag"]) or not values["digest"]:
            return None
        return cls(**values)  # type: ignore[arg-type]  # the kind was looked at


@dataclass(frozen=True)
class Release:
    """A base that was released: its tag, its digest, when, and in short what is new in it and how it was tested."""

    tag: str
    digest: str
    at: str
    changes: str
    smoke_test: str


class History:
    """The events of one base in the order in which they happened."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events = tuple(sorted(events, key=lambda event: (event.at, event.kind, event.tag, event.digest)))

    @cached_property
    def releases(self) -> tuple[Release, ...]:
        """All releases, the oldest first; one for each digest."""
        found: dict[str, Release] = {}
        for event in self.events:
            if event.kind == "release":
                made = Release(event.tag, event.digest, event.at, event.changes, event.smoke_test)
                found.setdefault(event.digest, made)
        return tuple(found.values())

    def claims(self, tag: str) -> set[str]:
        """Return the digests of the images that a tag was claimed for."""
        return {event.digest for event in self.events if event.kind == "claim" and event.tag == tag}

    @property
    def claimed(self) -> set[str]:
        """All tags that were claimed."""
        return {event.tag for event in self.events if event.kind == "claim"}

    def find(self, name: str) -> Release | None:
        """Return the release with a tag or a digest."""
        return next((one for one in self.releases if name in (one.tag, one.digest)), None)

    def stack(self, channel: str) -> list[Release]:
        """Return what a channel has named and would go back to; its last one is what it names now."""
        return self._replayed(channel)[0]

    def now(self, channel: str) -> Release | None:
        """Return what a channel names, as far as the history tells."""
        return next(reversed(self.stack(channel)), None)

    def rolled_back(self, channel: str) -> set[str]:
        """Return the digests of the releases that a channel went back from and has not named again."""
        return self._replayed(channel)[1]

    def back_to(self, channel: str, tag: str = "") -> Release:
        """Return where a way back leads: to the release before, or to the one of a tag.

        Raises :class:`CasabinderError` when there is none.
        """
        stack = self.stack(channel)
        if not stack:
            raise CasabinderError(f"the channel {channel} names no release yet, so there is no way back")
        if tag:
            target = self.find(tag)
            if target is None:
                known = ", ".join(one.tag for one in reversed(self.releases))
                raise CasabinderError(f"there is no release {tag!r}; there are {known}")
            if target == stack[-1]:
                raise CasabinderError(f"the channel {channel} names {tag} already")
            return target
        if len(stack) < 2:
            raise CasabinderError(f"the channel {channel} names {stack[-1].tag}, and nothing was before it")
        return stack[-2]

    def next_moment(self, now: float) -> str:
        """Return when an event that follows happens: now, but after all others, whatever their makers' clocks say."""
        moment = datetime.fromtimestamp(now, UTC)
        if self.events:
            last = datetime.strptime(self.events[-1].at, _CLOCK).replace(tzinfo=UTC)
            moment = max(moment, last + timedelta(microseconds=1))
        return moment.strftime(_CLOCK)

    def _replayed(self, channel: str) -> tuple[list[Release], set[str]]:
        stack: list[Release] = []
        left: set[str] = set()
        for event in self.events:
            named = self.find(event.digest) if event.channel == channel else None
            if event.kind not in ("move", "back") or named is None:
                continue
            if event.kind == "back" and named in stack:
                above = stack[stack.index(named) + 1 :]
            else:
                above = stack[-1:] if event.kind == "back" else []
            left |= {one.digest for one in above}
            stack = [one for one in stack if one not in above and one != named] + [named]
            left.discard(named.digest)
        return stack, left


def is_release_tag(tag: str) -> bool:
    """Whether a tag is one of a release: a day, and a number from the second of that day on."""
    return _TAG.fullmatch(tag) is not None


def next_tag(now: float, taken: Collection[str]) -> str:
    """Return the tag of a release that is made now: ``2026.11.30``, ``2026.11.30-2``..."""
    day = datetime.fromtimestamp(now, UTC).strftime("%Y.%m.%d")
    number = 1
    while (tag := day if number == 1 else f"{day}-{number}") in taken:
        number += 1
    return tag
