"""Counted requests: so many in a window, and the true time until it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from launcher.database import open_database
from launcher.refusal import RefusedError
from launcher.security.rates import Allowance, Rates, windows
from launcher.site_config import Rate, Service
from tests.testbed.jobs import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

TWO = Rate(requests=2, seconds=3600)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(Service(), tmp_path)
    yield engine
    engine.dispose()


def test_a_window(engine: Engine) -> None:
    rates = Rates(engine)
    assert rates.take("a", TWO, NOW) == Allowance(2, 1, 3600)
    assert rates.take("a", TWO, NOW + 10.5) == Allowance(2, 0, 3590)
    for later in (11, 12, 13):
        with pytest.raises(RefusedError, match="more than 2 times in 60 minutes; try again in 60 minutes") as caught:
            rates.take("a", TWO, NOW + later)
        assert (caught.value.status, caught.value.retry_after) == (429, 3600 - later)
    assert rates.take("b", TWO, NOW + 13) == Allowance(2, 1, 3600)
    with pytest.raises(RefusedError, match=r"in 1 second$"):
        rates.take("a", TWO, NOW + 3599.5)
    assert rates.take("a", TWO, NOW + 3600) == Allowance(2, 1, 3600)


def test_no_limit_counts_nothing(engine: Engine) -> None:
    rates = Rates(engine)
    for _ in range(3):
        assert rates.take("a", Rate(requests=0), NOW) == Allowance(0, 0, 0)
    with engine.begin() as connection:
        assert connection.execute(select(func.count()).select_from(windows)).scalar_one() == 0


def test_a_clock_that_was_set_back_locks_nobody_out(engine: Engine) -> None:
    rates = Rates(engine)
    for _ in range(2):
        rates.take("a", TWO, NOW + 10_000)
    assert rates.take("a", TWO, NOW) == Allowance(2, 1, 3600)


def test_windows_that_are_over_are_swept(engine: Engine) -> None:
    rates = Rates(engine)
    for number in range(20):
        rates.take(str(number), TWO, NOW)
    rates.take("later", TWO, NOW + 3601)
    with engine.begin() as connection:
        assert connection.execute(select(windows.c.name)).scalars().all() == ["later"]
