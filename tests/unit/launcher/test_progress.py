"""Events as lines, bars and JSON."""

from __future__ import annotations

import io
import json

from builder.events import Event
from launcher.progress import Bars, JsonLines, PlainLines, choose_reporter

START = Event("start", "push", "pushing to somewhere")
HALF = Event("progress", "push", done=5_000_000, total=10_000_000)
END = Event("end", "push", "10.0 MB uploaded", seconds=1.25)
NOTE = Event("message", "lock", "numpy 2.4 replaces 2.5 of the base")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_plain_lines_tell_ends_and_messages_only() -> None:
    stream = io.StringIO()
    report = PlainLines(stream)
    for event in (START, HALF, NOTE, END):
        report(event)
    note, end = stream.getvalue().splitlines()
    assert note.strip() == NOTE.message
    assert end.startswith("push")
    assert "10.0 MB uploaded" in end
    assert end.endswith("1.2 s")


def test_bars_move_on_one_line_and_end_as_plain_lines_do() -> None:
    stream = io.StringIO()
    report = Bars(stream)
    for event in (START, HALF, END):
        report(event)
    text = stream.getvalue()
    assert "[############............] 5.0 of 10.0 MB" in text
    assert text.count("\n") == 1, "only the end of a phase moves to the next line"


def test_json_lines_are_the_events() -> None:
    stream = io.StringIO()
    report = JsonLines(stream)
    report(HALF)
    assert json.loads(stream.getvalue()) == HALF.to_json()


def test_the_reporter_fits_the_stream() -> None:
    assert isinstance(choose_reporter(json_logs=False, quiet=False, stream=Terminal()), Bars)
    assert isinstance(choose_reporter(json_logs=False, quiet=False, stream=io.StringIO()), PlainLines)
    assert isinstance(choose_reporter(json_logs=True, quiet=False, stream=Terminal()), JsonLines)
    stream = io.StringIO()
    choose_reporter(json_logs=False, quiet=True, stream=stream)(END)
    assert stream.getvalue() == ""
