"""What was delivered is known again, by every replica, for a while."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from launcher.database import open_database
from launcher.security.deliveries import Deliveries
from launcher.site_config import Service

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def known(tmp_path: Path) -> Deliveries:
    return Deliveries(open_database(Service(), tmp_path))


def test_nothing_is_taken_twice_until_its_time_is_over(known: Deliveries) -> None:
    assert known.take(["a", "number:1"], 0, 100)
    assert not known.take(["a"], 50, 100)
    assert not known.take(["b", "number:1"], 50, 100)
    assert known.take(["b"], 50, 100), "the refused one is remembered"
    assert known.take(["a", "number:1"], 100, 100)


def test_what_could_not_be_done_may_come_again(known: Deliveries) -> None:
    assert known.take(["a", "number:1"], 0, 100)
    known.forget(["a", "number:1"])
    assert known.take(["a", "number:1"], 1, 100)


def test_one_of_many_at_once_takes_it(known: Deliveries, tmp_path: Path) -> None:
    replicas = [known, Deliveries(open_database(Service(), tmp_path))]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: replicas[number % 2].take(["a", "b"], 0, 100), range(24)))
    assert taken.count(True) == 1
