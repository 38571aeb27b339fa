"""Sizes in bytes as people read them."""

from __future__ import annotations


def readable(count: int) -> str:
    """Return a number of bytes in the decimal unit that suits it: ``712 B``, ``36 kB``, ``1.4 MB``, ``543 MB``."""
    if count < 1000:
        return f"{count} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6)):
        if count < 9.95 * factor:
            return f"{count / factor:.1f} {unit}"
        if count < 999.5 * factor or unit == "MB":
            break
    return f"{count / factor:.0f} {unit}"
