from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.errors import SessionError
from casabinder_runtime.session_directory import (
    SaidNotice,
    SessionRecord,
    SessionStatus,
    WorkerGroup,
    find_session_directory,
    new_session_directory,
    read_record,
    read_status,
    same_endpoint,
    secrets_directory,
    wait_for_record,
    write_record,
    write_status,
)

if TYPE_CHECKING:
    from pathlib import Path

RECORD = SessionRecord("tls://127.0.0.1:8786", 8787, "ca", "cert", "key", "e", "i", "local", 1)


def test_the_launchers_directory_comes_first_then_the_users_runtime_directory_then_home(tmp_path: Path) -> None:
    given, runtime, home = (tmp_path / name for name in ("given", "runtime", "home"))
    given.mkdir()
    runtime.mkdir()
    everything = {"CASABINDER_SECRETS": str(given), "XDG_RUNTIME_DIR": str(runtime), "HOME": str(home)}
    assert secrets_directory(everything) == given
    assert secrets_directory({**everything, "CASABINDER_SECRETS": str(tmp_path / "none")}) == runtime / "casabinder"
    at_home = secrets_directory({"HOME": str(home)})
    assert at_home == home / ".casabinder" / "session"
    assert at_home.stat().st_mode & 0o777 == 0o700


def test_a_session_directory_is_for_its_owner_only_and_empty(tmp_path: Path) -> None:
    directory = new_session_directory({"HOME": str(tmp_path)})
    assert directory.stat().st_mode & 0o777 == 0o700
    assert list(directory.iterdir()) == []
    assert read_record(directory) is None
    assert read_status(directory) == SessionStatus("starting")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    status = SessionStatus(
        "running",
        *(2, 3, "port 8786 is taken"),
        pool="htcondor",
        automatic=(1, 3),
        groups=(WorkerGroup(1, "held", "it says why", "failed"),),
        notices=(SaidNotice(1.5, "a sentence"),),
    )
    write_record(tmp_path, RECORD)
    write_status(tmp_path, status)
    assert read_record(tmp_path) == wait_for_record(tmp_path) == RECORD
    assert read_status(tmp_path) == status
    assert {path.name for path in tmp_path.iterdir()} == {"cluster.json", "status.json"}


def test_the_only_running_session_is_found_from_outside(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    with pytest.raises(SessionError, match="launched without Dask workers"):
        find_session_directory(environment)
    one = new_session_directory(environment)
    write_record(one, RECORD)
    assert find_session_directory(environment) == one
    write_record(new_session_directory(environment), RECORD)
    with pytest.raises(SessionError, match="several Dask sessions run here"):
        find_session_directory(environment)
    assert find_session_directory({**environment, "CASABINDER_SESSION": str(one)}) == one


def test_whoever_waits_for_a_session_that_failed_is_told_why(tmp_path: Path) -> None:
    write_status(tmp_path, SessionStatus("failed", message="no such pool"))
    with pytest.raises(SessionError, match="no such pool"):
        wait_for_record(tmp_path)


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="not ready after 0 s"):
        wait_for_record(tmp_path, seconds=0)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("tls://localhost:8786", True),
        ("tls://127.0.0.1:8786", True),
        ("tls://127.0.0.1:8787", False),
        ("tcp://127.0.0.1:8786", False),
        ("tls://example.org:8786", False),
    ],
)
def test_localhost_is_the_same_endpoint(other: str, same: bool) -> None:
    assert same_endpoint(other, RECORD.address) is same
