"""What the doctor says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: State
    sentence: str


def many(number: int, thing: str) -> str:
    """Return how many things, in words."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
