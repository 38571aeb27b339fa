"""How builders stand, by what is in their directories; real builders are tested with the runner."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from launcher.jobs.build_process import REQUEST, Task, write_result
from launcher.jobs.model import Asked, BuildRequest, Job, Result
from launcher.jobs.process_executor import ProcessExecutor

if TYPE_CHECKING:
    from pathlib import Path

JOB = Job("job", "key", "running", BuildRequest(Asked("gh", "a/b"), "https://x.org/a/b", "HEAD", "c" * 40), "user:a", 0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "service" / "builds" / JOB.id
    directory.mkdir(parents=True)
    task = Task(JOB.id, JOB.attempt, JOB.request, 100)
    (directory / REQUEST).write_text(json.dumps(task.to_json()), encoding="utf-8")
    return directory


@pytest.fixture
def executor(tmp_path: Path) -> ProcessExecutor:
    return ProcessExecutor(tmp_path, lambda _: ("", ""), 100)


def test_a_builder_without_a_result_is_lost_and_one_with_it_has_ended(
    executor: ProcessExecutor, directory: Path
) -> None:
    assert executor.find(JOB) == "lost"
    write_result(directory, Result("failed", "no"))
    assert executor.find(JOB) == "ended"


@pytest.mark.parametrize("left", [b"", b'{"job": "jo'])
def test_a_builder_whose_task_was_not_written_was_never_started(
    executor: ProcessExecutor, directory: Path, left: bytes
) -> None:
    (directory / REQUEST).write_bytes(left)
    assert executor.find(JOB) == "absent"
    (directory / REQUEST).unlink()
    assert executor.find(JOB) == "absent"
