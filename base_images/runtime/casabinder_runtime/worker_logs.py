"""The output of workers that have ended: files of the session's directory, bounded in number and size.

    <secrets>/session-x7a1/logs/              mode 0700
        casabinder-htcondor-3.out  .err       what the worker wrote; the end of it, where it was too much
        arriving/                             where the batch system brings it, file by file

The session process writes them, kernels read them; nothing beyond the standard library is imported here.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOGS = "logs"
ARRIVING = "arriving"
MOST_BYTES = 2**18  # of one file
MOST_WORKERS = 100
MOST_WORDS = 300  # characters of a reason

_ERROR = re.compile(r"(casabinder: |[A-Za-z_][\w.]*(Error|Exception|Exit|Warning|Interrupt)\b)")
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,.]+ - |\d{4}-\d\d-\d\d [\d:,.]+ (DEBUG|INFO|WARNING) ")


def logs_directory(session: Path) -> Path:
    """Return the directory of the logs in a session's, made if need be."""
    directory = session / LOGS
    for place in (directory, directory / ARRIVING):
        place.mkdir(mode=0o700, exist_ok=True)
    return directory


def take_in(directory: Path, worker: str) -> None:
    """Make a worker's output known that has arrived, after what it left before."""
    for name in (output_file(worker), error_file(worker)):
        arrived = directory / ARRIVING / name
        if arrived.exists():
            with (directory / name).open("ab") as log, arrived.open("rb") as source:
                shutil.copyfileobj(source, log)
            arrived.unlink()


def add_log(directory: Path, worker: str, text: str) -> None:
    """Keep a log that a worker has handed over while it could."""
    with (directory / error_file(worker)).open("a", encoding="utf-8") as log:
        log.write(f"{text.rstrip()}\n")


def output_file(worker: str) -> str:
    """Return the name of the file with a worker's standard output."""
    return f"{worker}.out"


def error_file(worker: str) -> str:
    """Return the name of the file with a worker's standard error."""
    return f"{worker}.err"


def keep_within_limits(directory: Path) -> None:
    """Cut files to their last ``MOST_BYTES``, and remove those of all but the last ``MOST_WORKERS`` workers."""
    files = _files(directory)[::-1]
    kept = list(dict.fromkeys(path.stem for path in files))[:MOST_WORKERS]
    for path in files:
        if path.stem not in kept:
            path.unlink()
        elif (size := path.stat().st_size) > MOST_BYTES:
            with path.open("rb") as stream:
                stream.seek(size - MOST_BYTES)
                end = stream.read()
            path.write_bytes(b"[...]\n" + end[end.find(b"\n") + 1 :])


def last_words(directory: Path, worker: str) -> str:
    """Return the line in which a worker's standard error says why it ended; nothing if there is none."""
    lines = [line.strip() for line in _text(directory / error_file(worker)).splitlines()]
    said = [line for line in lines if line and not _LOG_LINE.match(line)]
    errors = [line for line in said if _ERROR.match(line)]
    return (errors or said or [""])[-1].removeprefix("casabinder: ")[:MOST_WORDS]


def ended_workers(session: Path) -> list[str]:
    """Return the names of the workers whose output is there, in the order in which it was written."""
    return list(dict.fromkeys(path.stem for path in _files(session / LOGS)))


def read_logs(session: Path) -> dict[str, str]:
    """Return what workers wrote that have ended, by their names."""
    directory = session / LOGS
    return {
        worker: _text(directory / error_file(worker)) + _text(directory / output_file(worker))
        for worker in ended_workers(session)
    }


def _files(directory: Path) -> list[Path]:
    """Return the files with output, the oldest first."""
    return sorted([*directory.glob("*.err"), *directory.glob("*.out")], key=_age)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed meanwhile, being of an old worker
        return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
