"""Answers are asked for once, kept for a while, and bounded in number."""

from __future__ import annotations

import asyncio

import pytest

from launcher.service.recent import Recent


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_question_is_asked_once_and_again_when_its_time_is_over() -> None:
    clock, asked = Clock(), 0

    async def ask() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return str(asked)

    async def story() -> None:
        recent: Recent[str] = Recent(60, clock=clock)
        assert recent.known("q") is None
        assert await asyncio.gather(*(recent.get("q", ask) for _ in range(50))) == ["1"] * 50
        clock.now = 59
        assert (recent.known("q"), await recent.get("q", ask)) == ("1", "1")
        clock.now = 60
        assert (recent.last("q"), recent.last("other")) == ("1", None)
        assert (recent.known("q"), await recent.get("q", ask)) == (None, "2")

    asyncio.run(story())


def test_a_failure_is_not_kept() -> None:
    async def fail() -> str:
        raise ValueError("no")

    async def succeed() -> str:
        return "yes"

    async def story() -> None:
        recent: Recent[str] = Recent(60)
        with pytest.raises(ValueError, match="no"):
            await recent.get("q", fail)
        assert await recent.get("q", succeed) == "yes"

    asyncio.run(story())


def test_the_oldest_goes_when_there_are_too_many() -> None:
    async def answer() -> str:
        return "a"

    async def story() -> None:
        recent: Recent[str] = Recent(60, most=2)
        for question in ("1", "2", "3"):
            await recent.get(question, answer)
        assert [recent.known(question) for question in ("1", "2", "3")] == [None, "a", "a"]

    asyncio.run(story())
