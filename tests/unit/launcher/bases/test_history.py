"""Releases and channels from events: tags of a day, stacks, ways back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as some

from launcher.bases.history import Event, History, is_release_tag, next_tag
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.bases.history import Kind

DAY = datetime(2026, 11, 29, 23, 30, tzinfo=UTC).timestamp()
FIRST, SECOND, THIRD = "2026.11.01", "2026.11.02", "2026.11.03"
TAGS = (FIRST, SECOND, THIRD)


def digest(tag: str) -> str:
    return f"sha256:{tag}"


def event(number: int, kind: Kind, tag: str, channel: str = "") -> Event:
    return Event(kind, f"2026-11-28T00:{number // 60:02}:{number % 60:02}.000000Z", tag, digest(tag), channel)


def history(*moves: tuple[Kind, str], channel: str = "stable") -> History:
    """Return the history of three releases and these moves of one channel."""
    made = [event(number, "release", tag) for number, tag in enumerate(TAGS)]
    return History([*made, *(event(10 + number, kind, tag, channel) for number, (kind, tag) in enumerate(moves))])


def stack(found: History, channel: str = "stable") -> list[str]:
    return [one.tag for one in found.stack(channel)]


@pytest.mark.parametrize(
    ("taken", "tag"),
    [
        ((), "2026.11.29"),
        (("2026.11.28", "current", "2026.11.29-2"), "2026.11.29"),
        (("2026.11.29",), "2026.11.29-2"),
        (("2026.11.29", "2026.11.29-2", "2026.11.29-4"), "2026.11.29-3"),
    ],
)
def test_a_release_has_the_tag_of_its_day(taken: Sequence[str], tag: str) -> None:
    assert next_tag(DAY, taken) == tag
    assert is_release_tag(tag)


@pytest.mark.parametrize("tag", ["stable", "current", "2026.11", "2026.11.30-", "2026.11.30-0", "2026.11.30-2-3", ""])
def test_other_tags_are_no_releases(tag: str) -> None:
    assert not is_release_tag(tag)


def test_a_channel_names_what_it_was_moved_to_last() -> None:
    found = history(("move", FIRST), ("move", THIRD))
    assert (stack(found), stack(found, "edge")) == ([FIRST, THIRD], [])
    assert found.now("stable") == found.find(THIRD) == found.find(digest(THIRD))
    assert found.now("edge") is None


def test_each_way_back_leads_further() -> None:
    found = history(("move", FIRST), ("move", SECOND), ("move", THIRD))
    assert found.back_to("stable").tag == SECOND
    found = history(("move", FIRST), ("move", SECOND), ("move", THIRD), ("back", SECOND))
    assert (found.back_to("stable").tag, found.rolled_back("stable")) == (FIRST, {digest(THIRD)})
    found = history(("move", FIRST), ("move", SECOND), ("move", THIRD), ("back", SECOND), ("back", FIRST))
    assert (stack(found), found.rolled_back("stable")) == ([FIRST], {digest(SECOND), digest(THIRD)})
    with pytest.raises(CasabinderError, match=f"names {FIRST}, and nothing was before it"):
        found.back_to("stable")


def test_a_way_back_may_lead_to_any_release() -> None:
    found = history(("move", FIRST), ("move", SECOND), ("move", THIRD), ("back", FIRST))
    assert (stack(found), found.rolled_back("stable")) == ([FIRST], {digest(SECOND), digest(THIRD)})
    # Forward again: what is named is not rolled back.
    found = History([*found.events, event(30, "back", THIRD, "stable")])
    assert (stack(found), found.rolled_back("stable")) == ([THIRD], {digest(SECOND), digest(FIRST)})
    with pytest.raises(CasabinderError, match=f"names {THIRD} already"):
        found.back_to("stable", THIRD)
    with pytest.raises(CasabinderError, match=f"no release '1'; there are {THIRD}, {SECOND}, {FIRST}"):
        found.back_to("stable", "1")


def test_channels_know_nothing_of_each_other() -> None:
    found = history(("move", FIRST), ("move", SECOND), ("back", FIRST), channel="edge")
    assert (stack(found), found.rolled_back("stable")) == ([], set())
    with pytest.raises(CasabinderError, match="stable names no release yet"):
        found.back_to("stable")


def test_a_release_after_a_way_back_goes_on_from_there() -> None:
    found = history(("move", FIRST), ("move", SECOND), ("back", FIRST), ("move", THIRD))
    assert (stack(found), found.back_to("stable").tag) == ([FIRST, THIRD], FIRST)


@given(some.lists(some.tuples(some.sampled_from(["move", "back"]), some.sampled_from(TAGS)), max_size=12))
def test_a_channel_names_the_last_move_and_never_what_it_went_back_from(moves: list[tuple[Kind, str]]) -> None:
    found = history(*moves)
    there = stack(found)
    assert len(set(there)) == len(there)
    assert not found.rolled_back("stable") & {digest(tag) for tag in there}
    assert there[-1:] == [tag for _, tag in moves][-1:]


def test_an_event_is_read_as_it_was_written() -> None:
    whole = replace(event(1, "release", FIRST), changes="no package changed", smoke_test="passed, 3 checks")
    for one in (whole, event(2, "back", FIRST, "edge")):
        assert Event.read(one.annotations()) == one
    assert Event.read({"org.opencontainers.image.title": "x"}) is None
    for wrong in ({"kind": "other"}, {"at": "yesterday"}, {"tag": "stable"}, {"digest": ""}):
        stated = {f"org.casabinder.release.{name}": value for name, value in wrong.items()}
        assert Event.read({**whole.annotations(), **stated}) is None


def test_what_follows_comes_after_whatever_the_clocks_say() -> None:
    assert History().next_moment(DAY) == "2026-11-29T23:30:00.000000Z"
    late = History([event(0, "release", FIRST)])
    assert late.next_moment(DAY) == "2026-11-29T23:30:00.000000Z"
    assert late.next_moment(0) == "2026-11-28T00:00:00.000001Z"
