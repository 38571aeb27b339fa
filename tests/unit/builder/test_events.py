"""Phases and progress of a build, as a reporter hears of them."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from builder.events import Event, Phases, Progress, silent


def test_a_phase_reports_its_start_its_words_and_its_end() -> None:
    heard: list[Event] = []
    phases = Phases(heard.append)
    with phases.phase("fetch", "fetching") as progress:
        progress.add(5)
        progress.say("a sentence")
        progress.summary = "done"
    assert [(event.kind, event.message) for event in heard] == [
        ("start", "fetching"),
        ("progress", ""),
        ("message", "a sentence"),
        ("end", "done"),
    ]
    assert heard[-1].done == 5
    assert phases.seconds["fetch"] == heard[-1].seconds > 0


def test_a_phase_that_fails_has_no_end() -> None:
    heard: list[Event] = []
    with pytest.raises(ZeroDivisionError), Phases(heard.append).phase("lock", ""):
        raise ZeroDivisionError
    assert [event.kind for event in heard] == ["start"]


def test_phases_of_one_name_add_up() -> None:
    phases = Phases(silent)
    with phases.phase("push", ""):
        pass
    first = phases.seconds["push"]
    with phases.phase("push", ""):
        pass
    assert phases.seconds["push"] > first


def test_bytes_are_counted_from_many_threads_and_told_a_few_times() -> None:
    heard: list[Event] = []
    progress = Progress(heard.append, "push")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(progress.add, [1] * 2000))
    assert progress.done == 2000
    assert 1 <= len(heard) < 100
    assert all(event.done <= 2000 for event in heard)


def test_an_event_is_a_json_object_without_empty_fields() -> None:
    event = Event("end", "push", "ok", seconds=0.12345)
    assert json.loads(json.dumps(event.to_json())) == {
        "kind": "end",
        "phase": "push",
        "message": "ok",
        "seconds": 0.123,
    }
