"""Health: every dependency is asked at once, its answer is kept for a while, and what is optional decides nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from launcher.service import health as room
from launcher.service.health import KEPT, Health
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest


class Asked:
    """A dependency that counts how often it was asked."""

    def __init__(self, told: Mapping[str, Any] | None = None, error: Exception | None = None) -> None:
        self.count = 0
        self._told = told or {}
        self._error = error

    async def __call__(self) -> Mapping[str, Any]:
        self.count += 1
        await asyncio.sleep(0)
        if self._error:
            raise self._error
        return self._told


def test_all_is_well() -> None:
    health = Health({"Database": Asked(), "Pod quota": Asked({"quota": None})}, frozenset(("Pod quota",)))
    assert asyncio.run(health.report()) == {
        "ok": True,
        "checks": [
            {"service": "Database", "ok": True},
            {"service": "Pod quota", "ok": True, "_ignore_failure": True, "quota": None},
        ],
    }


def test_one_vital_dependency_is_down() -> None:
    broken = CasabinderError("the registry does not answer")
    report = asyncio.run(Health({"a": Asked(), "b": Asked(error=broken)}).report())
    assert not report["ok"]
    assert report["checks"][1] == {"service": "b", "ok": False, "message": "the registry does not answer"}


def test_an_optional_one_is_down_or_full() -> None:
    checks = {"a": Asked(error=CasabinderError("gone")), "b": Asked({"ok": False})}
    report = asyncio.run(Health(checks, frozenset(checks)).report())
    assert report["ok"]
    assert [check["ok"] for check in report["checks"]] == [False, False]


def test_words_of_a_driver_are_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        report = asyncio.run(Health({"Database": Asked(error=RuntimeError("password=hunter2"))}).report())
    assert not report["ok"]
    assert "hunter2" not in str(report)
    assert "Database" in caplog.text


def test_many_who_ask_at_once_ask_once() -> None:
    now = [0.0]
    dependency = Asked()
    health = Health({"a": dependency}, clock=lambda: now[0])

    async def ask() -> None:
        await asyncio.gather(*(health.report() for _ in range(50)))
        assert dependency.count == 1
        now[0] = KEPT - 0.1
        await health.report()
        assert dependency.count == 1
        now[0] = KEPT
        await health.report()
        assert dependency.count == 2

    asyncio.run(ask())


def test_a_dependency_that_is_silent_is_not_asked_again_before_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.01)
    now, count = [0.0], 0

    async def ask() -> None:
        may_answer = asyncio.Event()

        async def silent() -> Mapping[str, Any]:
            nonlocal count
            count += 1
            await may_answer.wait()
            return {}

        health = Health({"a": silent}, clock=lambda: now[0])
        for _ in range(3):
            report = await health.report()
            assert report == {
                "ok": False,
                "checks": [{"service": "a", "ok": False, "message": "no answer within 0.01 s"}],
            }
            now[0] += KEPT
        assert count == 1
        may_answer.set()
        monkeypatch.setattr(room, "PATIENCE", 20.0)
        for times in (1, 2):
            assert (await health.report())["ok"]
            assert count == times
            now[0] += KEPT

    asyncio.run(ask())
