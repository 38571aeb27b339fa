"""What was delivered before: names in the database for a while, so that no replica takes the same message twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column, Double, Index, String, Table, delete
from sqlalchemy.dialects import postgresql, sqlite

from launcher.database import metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("until", Double, nullable=False),
    Index("webhook_deliveries_by_end", "until"),
)


class Deliveries:
    """The names; what is over is forgotten whenever something new comes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, names: Sequence[str], now: float, seconds: float) -> bool:
        """Remember names for ``seconds``; return whether all of them are new. If one is not, nothing is remembered."""
        with self._engine.begin() as connection:
            connection.execute(delete(deliveries).where(deliveries.c.until <= now))
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            new = insert(deliveries).on_conflict_do_nothing(index_elements=("name",)).returning(deliveries.c.name)
            for name in sorted(names):  # in one order for all, so that nobody waits for somebody who waits for him
                if connection.execute(new.values(name=name, until=now + seconds)).first() is None:
                    connection.rollback()
                    return False
            return True

    def forget(self, names: Sequence[str]) -> None:
        """Let a message come again that could not be worked on."""
        with self._engine.begin() as connection:
            connection.execute(delete(deliveries).where(deliveries.c.name.in_(names)))
