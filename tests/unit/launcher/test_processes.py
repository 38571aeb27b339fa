"""Child processes and pid files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.processes import Child, birth, note, noted, wait_until_gone
from registry_sync.errors import CasabinderError

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while birth(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_child_writes_its_log_and_ends_when_asked(tmp_path: Path) -> None:
    log = tmp_path / "log" / "child.log"
    child = Child.start("child", ["sh", "-c", "echo first; echo last; exec sleep 60"], log)
    while "last" not in log.read_text():
        assert child.running
    assert child.said() == ["first", "last"]
    assert child.end(20)
    assert not child.running


def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = Child.start("child", [sys.executable, "-c", STUBBORN], log)
    while "here" not in log.read_text():
        assert child.running
    assert not child.end(0.05)
    assert child.process.returncode == -signal.SIGKILL


def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    for word in ("one", "two"):
        Child.start("child", ["echo", word], log).process.wait()
    assert (log.read_text(), (tmp_path / "child.log.1").read_text()) == ("two\n", "one\n")


def test_a_log_that_is_emptied_while_it_is_written_begins_anew(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = Child.start(
        "child", ["sh", "-c", "echo one; while [ -s $0 ]; do sleep 0.01; done; echo two", str(log)], log
    )
    while "one" not in log.read_text():
        assert child.running
    os.truncate(log, 0)
    child.process.wait()
    assert log.read_bytes() == b"two\n"


def test_a_program_that_is_missing_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CasabinderError, match="setpriv is missing: run scripts/bootstrap"):
        Child.start("child", ["true"], tmp_path / "child.log")


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\nfrom launcher.processes import Child\n"
        "child = Child.start('child', ['sleep', '60'], pathlib.Path(sys.argv[1]) / 'log')\n"
        "print(child.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        while not Path(f"/proc/{child}/cmdline").read_text().startswith("sleep"):  # until setpriv has become it
            assert birth(child)
        parent.kill()
        assert gone(child)


def test_a_pid_file_names_one_process_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "run" / "x.pid"
    assert noted(file) == 0
    note(file, os.getpid())
    assert noted(file) == os.getpid()
    pid, start, boot = file.read_text().split()
    for other in (f"{pid} 1 {boot}", f"{pid} {start} another-boot", pid, "", "x y z", "99999999 1 b"):
        file.write_text(f"{other}\n")
        assert noted(file) == 0, other


def test_the_process_of_a_pid_file_is_waited_for_and_then_killed(tmp_path: Path) -> None:
    file = tmp_path / "x.pid"
    wait_until_gone(file, 0)
    # Somebody else's child: nobody here reaps it, but a zombie counts as gone.
    with subprocess.Popen(["sleep", "60"]) as process:
        note(file, process.pid)
        wait_until_gone(file, 0)
        assert not file.exists()
        assert process.wait(20) == -signal.SIGKILL
