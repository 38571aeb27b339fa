"""Answers: one question however many ask, for as long as it holds."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from launcher.jobs.answers import MOST_OF_ONE, Answers
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Question:
    """Counts how often it is asked; answers when it may."""

    def __init__(self) -> None:
        self.times = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    def __call__(self) -> int:
        self.times += 1
        self.may_answer.wait(10)
        if self.error is not None:
            raise self.error
        return self.times


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answers(clock: Clock) -> Iterator[Answers]:
    with ThreadPoolExecutor(4) as pool:
        yield Answers(pool, 5.0, clock)


def test_many_ask_at_once(answers: Answers, clock: Clock) -> None:
    question = Question()

    async def ask() -> None:
        assert await asyncio.gather(*(answers.get("q", question, of="host.test") for _ in range(100))) == [1] * 100
        clock.now = 4.9
        assert await answers.get("q", question, of="host.test") == 1
        clock.now = 5.1
        assert await answers.get("q", question, of="host.test") == 2
        assert await answers.get("another", question, of="host.test") == 3

    asyncio.run(ask())


def test_a_refusal_is_an_answer_too_and_a_fault_is_not(answers: Answers) -> None:
    question = Question()

    async def ask() -> None:
        question.error = CasabinderError("there is none")
        for _ in range(2):
            with pytest.raises(CasabinderError, match="there is none"):
                await answers.get("q", question, of="host.test")
        assert question.times == 1
        question.error = MemoryError()
        for times in (2, 3):
            with pytest.raises(MemoryError):
                await answers.get("p", question, of="host.test")
            assert question.times == times

    asyncio.run(ask())


def test_who_stops_waiting_does_not_end_the_question(answers: Answers) -> None:
    question = Question()
    question.may_answer.clear()

    async def ask() -> None:
        leaves = asyncio.create_task(answers.get("q", question, of="host.test"))
        stays = asyncio.create_task(answers.get("q", question, of="host.test"))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.sleep(0)
        question.may_answer.set()
        assert await stays == 1
        assert leaves.cancelled()

    asyncio.run(ask())


def test_one_that_is_silent_leaves_room_for_the_others(clock: Clock) -> None:
    silent, other = Question(), Question()
    silent.may_answer.clear()

    async def ask(answers: Answers) -> None:
        waiting = [asyncio.create_task(answers.get(number, silent, of="silent.test")) for number in range(9)]
        assert await answers.get("another", other, of="other.test") == 1
        async with asyncio.timeout(10):
            while silent.times < MOST_OF_ONE:
                await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert silent.times == MOST_OF_ONE
        silent.may_answer.set()
        await asyncio.gather(*waiting)
        assert silent.times == 9

    with ThreadPoolExecutor(MOST_OF_ONE + 1) as pool:
        asyncio.run(ask(Answers(pool, 5.0, clock)))


def test_what_is_kept_is_bounded(answers: Answers) -> None:
    question = Question()

    async def ask() -> None:
        for number in range(300):
            await answers.get(number, question, of="host.test")
        assert await answers.get(299, question, of="host.test") == 300
        assert await answers.get(0, question, of="host.test") == 301

    asyncio.run(ask())
