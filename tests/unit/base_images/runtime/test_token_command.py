from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from casabinder_runtime.token_command import CommandError, run_token_command


def run(directory: Path, *command: str, seconds: float = 10) -> str:
    return asyncio.run(run_token_command(command, directory / "data", os.environ, seconds))


def test_the_token_is_what_it_writes(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", "echo a.b.c") == "a.b.c"
    assert run(tmp_path, "sh", "-c", 'echo chatter; echo a.b.c > "$0"', "{file}") == "a.b.c"
    assert run(tmp_path, "sh", "-c", 'echo a.b.c > "${0#--out=}"', "--out={file}") == "a.b.c"
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["no-such-program"], "the site's command (no-such-program) can't be run here: No such file or directory"),
        (["sh", "-c", "exit 2"], "the site's command (sh) ended with status 2"),
        (["sh", "-c", "echo a; echo no ticket. >&2; exit 2"], "the site's command (sh) ended with status 2: no ticket"),
        (["true"], "the site's command (true) gave no token"),
        (["sh", "-c", "echo two words"], "the site's command (sh) gave no token"),
        (["sh", "-c", "echo a.b.c", "{file}"], "the site's command (sh) gave no token"),
        (["sh", "-c", "printf '\\377'"], "the site's command (sh) gave no token"),
    ],
)
def test_why_there_is_no_token(tmp_path: Path, command: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(tmp_path, *command)
    assert str(caught.value) == sentence


def test_it_ends_in_time_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="did not end within 0 s"):
        run(tmp_path, "sh", "-c", f"sleep 60 & echo $! > {tmp_path}/child; wait", seconds=0.3)
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    deadline = time.monotonic() + 10  # a process that was killed takes its time to die
    while runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(stat: Path) -> bool:
    """Tell whether a process is there and no zombie, which waits for its parent alone."""
    try:
        return stat.read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_token_is_not_among_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        run(tmp_path, "sh", "-c", f"echo refused {'eyJ' * 30} >&2; exit 1")
    assert str(caught.value) == "the site's command (sh) ended with status 1: refused"
