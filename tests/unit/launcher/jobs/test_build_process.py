"""What a builder is told and tells; building itself is tested with the runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.repository.fetching import Fetching
from builder.repository.spec import RepositoryError, RepoSpec
from launcher.jobs.build_process import RESULT, Task, known_commit, read_result, write_result
from launcher.jobs.model import Asked, BuildRequest, Result
from tests.testbed.archives import running_archives

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "c" * 40


def test_task_and_result_come_back_as_they_were(tmp_path: Path) -> None:
    request = BuildRequest(Asked("gh", "a/b/main", as_of="commit", rebuild=True), "https://x.org/a/b", "main", COMMIT)
    task = Task("job", 2, request, 100, "x.org")
    assert Task.from_json(task.to_json()) == task
    assert read_result(tmp_path) is None
    for result in (Result("failed", "no"), Result("built", record={"image": "a"})):
        write_result(tmp_path, result)
        assert read_result(tmp_path) == result


@pytest.mark.parametrize("left", [b"", b'{"state": "bu'])
def test_a_result_that_a_power_cut_left_without_content_is_none(tmp_path: Path, left: bytes) -> None:
    (tmp_path / RESULT).write_bytes(left)
    assert read_result(tmp_path) is None


def test_the_commit_of_a_job_is_not_asked_for_again() -> None:
    spec = RepoSpec("https://nowhere.invalid/a/b", "main", "below")
    commit = known_commit(spec, COMMIT, Fetching(local=False))
    assert (commit.id, commit.ref, commit.spec) == (COMMIT, "main", spec)


@pytest.mark.parametrize(
    ("url", "fetching", "sentence"),
    [
        ("/etc", Fetching(local=False), "is a directory of this machine"),
        ("https://bad.org/a", Fetching(local=False, deny=("bad.org/*",)), "this site does not build bad.org/a"),
    ],
)
def test_what_a_site_does_not_allow_is_refused_again(url: str, fetching: Fetching, sentence: str) -> None:
    with pytest.raises(RepositoryError, match=sentence):
        known_commit(RepoSpec(url), COMMIT, fetching)


def test_a_record_is_built_only_as_it_was() -> None:
    with running_archives({"a.txt": b"one"}) as archives:
        spec = RepoSpec("zenodo:10.5281/zenodo.12")
        with pytest.raises(RepositoryError, match="holds other files than it did"):
            known_commit(spec, COMMIT, archives.fetching)
        from builder.repository.checkout import resolve_ref

        resolved = resolve_ref(spec, archives.fetching)
        assert known_commit(spec, resolved.id, archives.fetching) == resolved
