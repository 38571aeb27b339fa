from __future__ import annotations

import pytest
from casabinder_runtime.idle import Load, Step, decide, duration

LIMIT = 1800
IDLE = Load(workers=4)
BUSY = Load(workers=4, unfinished=True)


@pytest.mark.parametrize(
    ("load", "idle_seconds", "given_back", "step"),
    [
        (IDLE, 1799, 0, "wait"),
        (IDLE, 1800, 0, "give back"),
        (BUSY, 0, 0, "wait"),
        (BUSY, 1800, 0, "wait"),  # one task that takes an hour is work
        (Load(workers=4, results=True), 1800, 0, "keep"),
        (Load(workers=4, results=True), 1799, 0, "wait"),
        (Load(workers=4, automatic=True), 1800, 0, "wait"),  # goes down to its minimum by itself
        (Load(workers=0), 1800, 0, "wait"),  # somebody has scaled to none
        (Load(workers=0), 5000, 4, "wait"),
        (Load(workers=0, unfinished=True), 0, 4, "ask again"),
    ],
)
def test_workers_go_when_there_is_nothing_to_do_and_come_when_there_is(
    load: Load, idle_seconds: float, given_back: int, step: Step
) -> None:
    assert decide(load, idle_seconds, LIMIT, given_back) == step


def test_without_a_limit_workers_stay() -> None:
    assert decide(IDLE, 1_000_000, 0, 0) == "wait"


@pytest.mark.parametrize(("seconds", "text"), [(3, "3 s"), (90, "90 s"), (1800, "30 min")])
def test_times_are_said_in_a_fitting_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
