"""The releases of one base in its registry: the history, the tags that follow from it, the notes beside each image.

::

    bases/NAME:releases      an empty artifact, the same for all bases; every event refers to it, so that one request
                             gives the history, and whoever adds to it takes nothing away
    bases/NAME:2026.11.30    a release: its tag is set once and never moved
    bases/NAME:stable        what the history says the channel names now

The history is written first and the tags follow, so that whoever was interrupted is completed by the next one.
"""

from __future__ import annotations

import random
import time
from io import BytesIO
from typing import TYPE_CHECKING

from builder.attachments.attach import CREATED_ANNOTATION as CREATED
from builder.attachments.attach import Artifact, Blob, attach, document, newest, read_artifact
from launcher.bases.history import Event, History, Kind, Release, next_tag
from registry_sync.errors import CasabinderError
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.site_config import Channel
    from registry_sync.store import Store

RELEASES = "releases"
HISTORY_TYPE = "application/vnd.casabinder.base.history.v1+json"
EVENT_TYPE = "application/vnd.casabinder.base.event.v1+json"
NOTES_TYPE = "application/vnd.casabinder.base.release.v1+json"

_EMPTY = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
_ANCHOR = Manifest.image(_EMPTY, [_EMPTY], artifact_type=HISTORY_TYPE)
_TRIES = 8


class Ledger:
    """The releases of the base in a ``repository`` of a store."""

    def __init__(
        self,
        store: Store,
        repository: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.repository = repository
        self._clock = clock
        self._sleep = sleep

    def history(self) -> History:
        """Read what has happened."""
        found = self.store.referrers(self.repository, _ANCHOR.digest, EVENT_TYPE)
        events = (Event.read(one.annotations) for one in found)
        return History(event for event in events if event is not None)

    def release(self, digest: str, changes: str, smoke_test: str) -> Release:
        """Make a release of an image and return it; an image that was released before keeps its tag."""
        history = self.history()
        known = history.find(digest)
        if known is None:
            tag = self._claim(digest)
            self._add("release", tag, digest, changes=changes, smoke_test=smoke_test)
            known = self.history().find(digest)
        if known is None:
            raise CasabinderError(f"the registry has lost the release of {digest} that was just made: try again")
        self._tag(known)
        return known

    def move(self, channel: Channel, release: Release) -> None:
        """Have a channel name a release."""
        if self.history().now(channel) != release:
            self._add("move", release.tag, release.digest, channel=channel)
        self._settle(channel)

    def back(self, channel: Channel, tag: str = "") -> tuple[Release, Release]:
        """Have a channel name the release before, or the one of a tag; return what it named and what it names now."""
        history = self.history()
        target = history.back_to(channel, tag)
        if self.store.head_manifest(self.repository, target.digest) is None:
            raise CasabinderError(f"the image of {target.tag} is no longer in the registry: name another with --to")
        before = history.stack(channel)[-1]
        self._add("back", target.tag, target.digest, channel=channel)
        self._settle(channel)
        return before, target

    def notes(self, digest: str) -> bytes | None:
        """Return the newest notes of a release, ``None`` if there are none."""
        found = newest(self.store.referrers(self.repository, digest, NOTES_TYPE), NOTES_TYPE)
        return None if found is None else read_artifact(self.store, self.repository, found)

    def attach_notes(self, digest: str, notes: bytes) -> None:
        """Put notes beside an image."""
        subject = self.store.get_manifest(self.repository, digest).descriptor()
        made = self.history().next_moment(self._clock())
        attach(self.store, self.repository, subject, [document(NOTES_TYPE, "release.json", notes, {CREATED: made})])

    def _claim(self, digest: str) -> str:
        """Return a tag that nobody else makes a release of."""
        for attempt in range(_TRIES):
            taken = {*self.history().claimed, *self.store.tags(self.repository)}
            tag = next_tag(self._clock(), taken)
            self._add("claim", tag, digest)
            if self.history().claims(tag) == {digest}:
                return tag
            self._sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - so that two do not go in step
        raise CasabinderError(f"too many releases of {self.repository} are made at once: try again")

    def _tag(self, release: Release) -> None:
        """Set a release's tag; it is never moved."""
        there = self.store.head_manifest(self.repository, release.tag)
        if there is not None and there.digest != release.digest:
            raise CasabinderError(
                f"the tag {release.tag} of {self.repository} names {there.digest}, and {release.digest} was released "
                "under it: a release's tag is never moved, so somebody else has; delete the tag, and try again"
            )
        if there is None:
            self._point(release.tag, release.digest)

    def _settle(self, channel: Channel) -> None:
        """Have the channel's tag name what the history says, until nobody has changed it meanwhile."""
        named = self.history().now(channel)
        for _ in range(_TRIES):
            if named is None:
                return
            self._point(channel, named.digest)
            before, named = named, self.history().now(channel)
            if named == before:
                return
        raise CasabinderError(f"the channel {channel} of {self.repository} is moved by others too: try again")

    def _point(self, tag: str, digest: str) -> None:
        self.store.put_manifest(self.repository, tag, self.store.get_manifest(self.repository, digest))

    def _add(
        self, kind: Kind, tag: str, digest: str, *, channel: str = "", changes: str = "", smoke_test: str = ""
    ) -> None:
        """Add an event to the history."""
        at = self.history().next_moment(self._clock())
        event = Event(kind, at, tag, digest, channel, changes, smoke_test)
        if self.store.head_manifest(self.repository, RELEASES) is None:
            self.store.put_blob(self.repository, _EMPTY, lambda: BytesIO(EMPTY_JSON))
            self.store.put_manifest(self.repository, RELEASES, _ANCHOR)
        artifact = Artifact(EVENT_TYPE, (Blob(OCI_EMPTY, EMPTY_JSON),), event.annotations())
        attach(self.store, self.repository, _ANCHOR.descriptor(), [artifact])
