"""How often somebody may ask: counts in the database, so that all replicas count together.

A window begins with the first request and lasts ``rate.seconds``; it has room for ``rate.requests``. Counting is one
statement (insert, or else change the row that is there), which both databases do atomically.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Column, Double, Index, Integer, Table, Text, case, delete, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from launcher.database import metadata
from launcher.refusal import RefusedError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from launcher.site_config import Rate

_SWEPT = 100

windows = Table(
    "rate_windows",
    metadata,
    Column("name", Text, primary_key=True),
    Column("until", Double, nullable=False),
    Column("used", Integer, nullable=False),
    Index("rate_windows_by_end", "until"),
)


@dataclass(frozen=True)
class Allowance:
    """What is left: ``remaining`` of ``limit`` requests until the window ends in ``reset`` seconds (0: no limit)."""

    limit: int
    remaining: int
    reset: int


class Rates:
    """Counted requests by name, such as ``launch:<address>``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, name: str, rate: Rate, now: float) -> Allowance:
        """Count one request at ``now`` and return what is left.

        Raises :class:`RefusedError` (429) when nothing is, with the seconds until the window ends. A refused request
        is not counted: the window ends when it was said to.
        """
        if rate.requests == 0:
            return Allowance(0, 0, 0)
        with self._engine.begin() as connection:
            until, used = _count(connection, name, rate, now)
        if used == 1:
            self._sweep(now)
        reset = max(1, math.ceil(until - now))
        if used > rate.requests:
            raise RefusedError(
                f"that was asked more than {rate.requests} times in {_readable(rate.seconds)}; "
                f"try again in {_readable(reset)}",
                429,
                retry_after=reset,
            )
        return Allowance(rate.requests, rate.requests - used, reset)

    def _sweep(self, now: float) -> None:
        """Delete some windows that are over. Rows that others are changing are left to them, so that nobody waits."""
        over = select(windows.c.name).where(windows.c.until <= now).limit(_SWEPT).with_for_update(skip_locked=True)
        with self._engine.begin() as connection:
            connection.execute(delete(windows).where(windows.c.name.in_(over.scalar_subquery())))


def _count(connection: Connection, name: str, rate: Rate, now: float) -> tuple[float, int]:
    """Return when the window ends, and which request of it this is (at most one more than there is room for)."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # A clock that was set back, or a longer window in an older configuration, must not lock anybody out.
    over = (windows.c.until <= now) | (windows.c.until > now + rate.seconds)
    full = windows.c.used > rate.requests
    counted = insert(windows).values(name=name, until=now + rate.seconds, used=1)
    counted = counted.on_conflict_do_update(
        index_elements=("name",),
        set_={
            "until": case((over, literal(now + rate.seconds)), else_=windows.c.until),
            "used": case((over, 1), (full, windows.c.used), else_=windows.c.used + 1),
        },
    )
    row = connection.execute(counted.returning(windows.c.until, windows.c.used)).one()
    return float(row.until), int(row.used)


def _readable(seconds: int) -> str:
    count, unit = (seconds, "second") if seconds < 120 else (math.ceil(seconds / 60), "minute")
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
