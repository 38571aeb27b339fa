"""What a cluster looks like in a notebook: rows of HTML, as a pure function of what is known of its workers.

Reasons come from HTCondor and from workers, so they are escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_GOOD, _SOON, _WAITS, _BAD = "#2e7d32", "#1565c0", "#b26a00", "#c62828"
_HANGING = "text-align: left; padding-left: 1.2em; text-indent: -1.2em;"
_COLOURS = {
    "running": _GOOD,
    "starting": _SOON,
    "pulling the image": _SOON,
    "idle in the queue": _WAITS,
}


def rows(pool: str, scaling: str, running: int, notes: Sequence[str], ended: int) -> str:
    """Return the rows of a table with two columns.

    ``notes`` are those of the session, such as ``2 idle in the queue``; ``ended`` workers have left a log.
    """
    fates = [f"{running} running", *notes]
    lines = "".join(
        f'<div style="{_HANGING}"><span style="color: {_colour(one)};">&#9679;</span> {escape(one)}</div>'
        for one in fates
    )
    logs = "of the scheduler and of running workers"
    if ended:
        logs = f"{logs}, and of {ended} worker{'s' if ended > 1 else ''} that ended"
    wide = '<tr><td colspan="2" style="text-align: left;">{}</td></tr>'
    return (
        f"<tr>{_cell('Pool', escape(pool))}{_cell('Scaling', escape(scaling))}</tr>"
        f"{wide.format(lines)}{wide.format(f'<strong>Logs:</strong> <code>cluster.logs()</code> {logs}')}"
    )


def _cell(name: str, value: str) -> str:
    return f'<td style="text-align: left;"><strong>{name}:</strong> {value}</td>'


def _colour(fate: str) -> str:
    what = fate.lstrip("0123456789 ")
    return next((colour for name, colour in _COLOURS.items() if what.startswith(name)), _BAD)
