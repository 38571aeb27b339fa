"""A build's log as a file: limits where it is written, whole lines where it is read."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.events import Event
from launcher.jobs.event_file import UNREADABLE, EventReader, EventWriter
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_progress_is_told_twice_a_second_and_everything_else_always(tmp_path: Path) -> None:
    clock = Clock()
    writer = EventWriter(tmp_path / "events", 100, clock)
    for tenth in range(20):
        clock.now = 1000 + tenth / 10
        writer(Event("progress", "download", done=tenth))
        writer(Event("progress", "push", done=tenth))
        writer(Event("message", "download", f"file {tenth}"))
    told = lines(tmp_path / "events")
    assert [line.get("done", 0) for line in told if line["phase"] == "push"] == [0, 5, 10, 15]
    assert [line["message"] for line in told if line["kind"] == "message"] == [f"file {tenth}" for tenth in range(20)]
    assert (tmp_path / "events").stat().st_mode & 0o777 == 0o600


def test_a_log_is_cut_and_what_matters_goes_on(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "events", 3, Clock())
    for text in ("one", "two\nthree", "four", "five"):
        writer(Event("message", "layers", text))
    writer(Event("end", "layers", "done", seconds=1.0))
    told = [line["message"] for line in lines(tmp_path / "events")]
    cut = "the log ends here: it has more than the 3 lines that this facility keeps"
    assert told == ["one", "two\nthree", cut, "done"]


def test_what_is_not_for_everybody_is_not_written(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "events", 3, Clock())
    writer(Event("message", "fetch", "\x1b[31mfrom https://me:secret@example.org/x\x00" + "y" * 10_000))
    (told,) = lines(tmp_path / "events")
    assert str(told["message"]).startswith("from https://example.org/x y")
    assert len(str(told["message"])) < 2010


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_text('{"time":1.5,"kind":"message"}\n{"time":2.5,')
    reader = EventReader(file, 0)
    assert reader.read() == [(1.5, {"kind": "message"})]
    assert reader.read() == []
    with file.open("a") as sink:
        sink.write('"kind":"end"}\n')
    assert not reader.at_end
    assert reader.read() == [(2.5, {"kind": "end"})]
    assert reader.at_end
    reader.close()


@settings(max_examples=30)
@given(st.lists(st.text(max_size=20), max_size=40), st.integers(0, 40))
def test_who_goes_on_later_misses_nothing_and_repeats_nothing(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], skip: int
) -> None:
    file = tmp_path_factory.mktemp("log") / "events"
    writer = EventWriter(file, 1000, Clock())
    for text in texts:
        writer(Event("message", "layers", text))
    whole, rest = EventReader(file, 0), EventReader(file, skip)
    assert rest.read() == whole.read()[skip:]
    whole.close()
    rest.close()


def full_disk(room: int) -> Callable[[int, bytes], int]:
    """Return an ``os.write`` for a disk on which there is room for so many bytes, until it is asked in vain once."""
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            room = 10_000
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[:room])
        room -= written
        return written

    return short


def test_what_a_full_disk_cut_off_spoils_no_other_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "events"
    writer = EventWriter(file, 10, Clock())
    monkeypatch.setattr("launcher.jobs.event_file.os.write", full_disk(100))
    writer(Event("message", "layers", "one"))
    with pytest.raises(CasabinderError, match="full"):
        writer(Event("message", "layers", "two"))
    writer(Event("message", "layers", "three"))
    reader, rest = EventReader(file, 0), EventReader(file, 2)
    read = reader.read()
    assert [event["message"] for _, event in read] == ["one", UNREADABLE, "three"]
    assert read[1] == (read[1][0], {"kind": "message", "phase": "layers", "message": UNREADABLE})
    assert rest.read() == read[2:]
    reader.close()
    rest.close()


def test_a_line_is_written_whole_however_little_of_it_goes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    writer = EventWriter(tmp_path / "events", 10, Clock())
    monkeypatch.setattr("launcher.jobs.event_file.os.write", lambda descriptor, data: write(descriptor, data[:7]))
    writer(Event("message", "layers", "one"))
    writer(Event("message", "layers", "two"))
    assert [line["message"] for line in lines(tmp_path / "events")] == ["one", "two"]


@pytest.mark.parametrize(
    "line", [b"{", b'{"time":1,"kind":"mess{"time":2}', b"[]", b"1", b"", b'{"kind":"end"}', b"\xff"]
)
def test_a_line_that_can_not_be_read_is_told_as_such(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "events").write_bytes(line + b'\n{"time":2.5,"kind":"end","phase":"layers"}\n')
    reader = EventReader(tmp_path / "events", 0)
    (_, spoilt), (time, event) = reader.read()
    assert spoilt == {"kind": "message", "phase": "layers", "message": UNREADABLE}
    assert (time, event["kind"]) == (2.5, "end")
    reader.close()
