"""The releases of a base in a store: tags that follow from the history, and two admins at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from launcher.bases.ledger import Ledger
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY = "fac/bases/tiny"
DAY = datetime(2026, 11, 29, 23, 30, tzinfo=UTC).timestamp()
NEXT = DAY + 3600


@pytest.fixture
def store(tmp_path: Path) -> LayoutStore:
    return LayoutStore(tmp_path / "store")


def image(store: LayoutStore, name: str) -> str:
    """Put an image into the base's repository and return its digest."""
    config = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
    store.put_blob(REPOSITORY, config, lambda: BytesIO(EMPTY_JSON))
    manifest = Manifest.image(config, [], annotations={"name": name})
    store.put_manifest(REPOSITORY, manifest.digest, manifest)
    return manifest.digest


def ledger(store: LayoutStore, now: float = DAY) -> Ledger:
    return Ledger(store, REPOSITORY, lambda: now, lambda _: None)


def named(store: LayoutStore, tag: str) -> str | None:
    there = store.head_manifest(REPOSITORY, tag)
    return there.digest if there else None


def test_releases_get_dated_tags_that_stay(store: LayoutStore) -> None:
    one, two, three = (image(store, name) for name in ("one", "two", "three"))
    first = ledger(store).release(one, "the first release", "passed, 3 checks")
    second = ledger(store).release(two, "packages changed: 1 analysis", "passed, 3 checks")
    third = ledger(store, NEXT).release(three, "no package changed", "passed, 3 checks")
    assert [made.tag for made in (first, second, third)] == ["2026.11.29", "2026.11.29-2", "2026.11.30"]
    assert [named(store, made.tag) for made in (first, second, third)] == [one, two, three]
    assert ledger(store, NEXT).release(one, "", "") == first, "an image is released once"
    assert ledger(store).history().releases == (first, second, third)
    assert first.changes == "the first release"


def test_a_tag_that_somebody_moved_is_not_taken_for_a_release(store: LayoutStore) -> None:
    one, two = image(store, "one"), image(store, "two")
    made = ledger(store).release(one, "", "")
    store.put_manifest(REPOSITORY, made.tag, store.get_manifest(REPOSITORY, two))
    with pytest.raises(CasabinderError, match="a release's tag is never moved"):
        ledger(store).release(one, "", "")
    store.put_manifest(REPOSITORY, "2026.11.30", store.get_manifest(REPOSITORY, one))
    assert ledger(store, NEXT).release(two, "", "").tag == "2026.11.30-2", "nor is one that is there already"


def test_a_channel_goes_on_and_back(store: LayoutStore) -> None:
    digests = [image(store, name) for name in ("one", "two", "three")]
    here = ledger(store)
    for digest in digests:
        here.move("stable", here.release(digest, "", ""))
    assert named(store, "stable") == digests[2]
    before, target = here.back("stable")
    assert (before.digest, target.digest, named(store, "stable")) == (digests[2], digests[1], digests[1])
    here.back("stable")
    assert named(store, "stable") == digests[0]
    here.back("stable", "2026.11.29-3")
    assert (named(store, "stable"), named(store, "edge")) == (digests[2], None)


def test_an_image_that_is_gone_is_not_gone_back_to(store: LayoutStore) -> None:
    one, two = image(store, "one"), image(store, "two")
    here = ledger(store)
    for digest in (one, two):
        here.move("stable", here.release(digest, "", ""))
    store.delete_manifest(REPOSITORY, one)
    with pytest.raises(CasabinderError, match=r"2026\.11\.29 is no longer in the registry"):
        here.back("stable")
    assert named(store, "stable") == two
    assert here.history().rolled_back("stable") == set()


def test_what_was_interrupted_is_completed_by_the_next_one(store: LayoutStore) -> None:
    one = image(store, "one")
    here = ledger(store)
    made = here.release(one, "", "")
    here.move("edge", made)
    for tag in (made.tag, "edge"):  # as if it had ended before they were set
        store.delete_manifest(REPOSITORY, tag)
    assert here.release(one, "", "") == made
    here.move("edge", made)
    assert (named(store, made.tag), named(store, "edge")) == (one, one)
    assert len([event for event in here.history().events if event.kind == "move"]) == 1


def test_admins_who_release_at_once_get_tags_of_their_own(store: LayoutStore) -> None:
    digests = [image(store, str(number)) for number in range(4)]

    def release(digest: str) -> str:
        here = Ledger(store, REPOSITORY, lambda: DAY)
        made = here.release(digest, "", "")
        here.move("edge", made)
        return made.tag

    with ThreadPoolExecutor(len(digests)) as pool:
        tags = list(pool.map(release, digests))
    assert len(set(tags)) == len(digests)
    assert [named(store, tag) for tag in tags] == digests
    last = ledger(store).history().now("edge")
    assert last is not None
    assert named(store, "edge") == last.digest, "the channel is where the history says"


def test_the_newest_notes_count(store: LayoutStore) -> None:
    one = image(store, "one")
    here = ledger(store)
    assert here.notes(one) is None
    here.attach_notes(one, b"first")
    ledger(store, NEXT).attach_notes(one, b"second")
    assert here.notes(one) == b"second"
