"""Takes out what programs write for a terminal's colours."""

from __future__ import annotations

import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def without_colours(text: str) -> str:
    """Return a text without escape codes for colours."""
    return _COLOURS.sub("", text)
