"""A lock for all of one machine: it keeps others out, and its absence stops nobody."""

from __future__ import annotations

import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from registry_sync.machine_lock import machine_lock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_one_at_a_time() -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with machine_lock("a name / of anything"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_place_that_cannot_be_used_locks_nothing(temporary: Path) -> None:
    with machine_lock("one"):
        pass
    (directory,) = temporary.iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    (file,) = directory.iterdir()
    file.unlink()
    directory.rmdir()
    directory.symlink_to(temporary)
    with machine_lock("one"):
        pass
    assert list(temporary.iterdir()) == [directory]
