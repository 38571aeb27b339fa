from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.errors import PoolError
from casabinder_runtime.pools.schedd import QueuedJob, Schedd, ScheddAddress, explain, session_constraint

from tests.testbed.notebook_server import RUNTIME

if TYPE_CHECKING:
    from collections.abc import Callable


def token(claims: dict[str, object]) -> str:
    """Return an unsigned token."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln\n"


@pytest.fixture
def address(tmp_path: Path) -> ScheddAddress:
    """A schedd that is not there: nothing listens on the discard port."""
    file = tmp_path / "condor" / "token"
    file.parent.mkdir()
    file.write_text(token({"sub": "alice@testbed", "exp": 2_000_000_000}))
    return ScheddAddress("127.0.0.1:9", "facility@testbed", "testbed", file, "127.0.0.1")


def test_a_token_is_good_until_it_expires(address: ScheddAddress) -> None:
    address.check_token(1_999_999_999)
    with pytest.raises(PoolError, match="expired at 03:33 UTC on 2033-05-18: launch the notebook again"):
        address.check_token(2_000_000_000)


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", "a.e30=.c\u00e9", "a.W10.c"])
def test_a_damaged_token_is_one_sentence(address: ScheddAddress, text: str) -> None:
    address.token.write_text(text)
    with pytest.raises(PoolError, match="the HTCondor token of this session is damaged"):
        address.check_token(0)


def test_a_missing_token_is_one_sentence(address: ScheddAddress) -> None:
    address.token.unlink()
    with pytest.raises(PoolError, match="cannot be read: No such file or directory"):
        address.check_token(0)


def test_only_the_sessions_token_is_used_and_everything_is_encrypted(address: ScheddAddress) -> None:
    environment = address.environment()
    assert environment["CONDOR_CONFIG"] == "/dev/null"
    assert environment["_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS"] == "IDTOKENS"
    assert environment["_CONDOR_SEC_DEFAULT_ENCRYPTION"] == "REQUIRED"
    assert environment["_CONDOR_SEC_TOKEN_DIRECTORY"] == str(address.token.parent)
    assert environment["_CONDOR_NETWORK_INTERFACE"] == "127.0.0.1"
    assert address.token.read_text().strip() not in " ".join(environment.values())


@pytest.mark.parametrize(
    ("ad", "state", "reason"),
    [
        ({"JobStatus": 1}, "idle", ""),
        ({"JobStatus": 1, "LastRejMatchReason": "no match found", "LastRejMatchTime": 20}, "idle", "no match found"),
        ({"JobStatus": 1, "LastRejMatchReason": "of another time", "LastRejMatchTime": 9}, "idle", ""),
        ({"JobStatus": 2}, "running", ""),
        ({"JobStatus": 5, "HoldReasonCode": 16, "HoldReason": "Spooling input data files"}, "submitted", ""),
        ({"JobStatus": 5, "HoldReasonCode": 1, "HoldReason": "by alice"}, "held", "by alice"),
        ({"JobStatus": 4, "ExitBySignal": False, "ExitCode": 137}, "ended", "ended with status 137 (it was killed)"),
        ({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}, "ended", "ended by signal 9 (it was killed)"),
        ({"JobStatus": 3, "RemoveReason": "via condor_rm"}, "ended", "was removed from the queue (via condor_rm)"),
    ],
)
def test_a_jobs_ad_says_how_its_worker_fares(ad: dict[str, object], state: str, reason: str) -> None:
    job = QueuedJob.parse({"ClusterId": 7, "CasabinderWorker": "w-0", "EnteredCurrentStatus": 10, **ad})
    assert (job.cluster, job.worker, job.state, job.reason) == (7, "w-0", state, reason)


def test_a_jobs_ad_says_where_it_runs_since_when_and_what_it_left() -> None:
    ad = {
        "ClusterId": 7,
        "CasabinderWorker": "w-0",
        "JobStatus": 4,
        "ExitBySignal": False,
        "ExitCode": 1,
        "EnteredCurrentStatus": 30,
        "JobCurrentStartDate": 20,
        "LastRemoteHost": "slot1_1@node2.example.org",
        "BytesSent": 12.0,
    }
    assert QueuedJob.parse(ad) == QueuedJob(7, "w-0", "ended", "ended with status 1", "node2", 20, 30, "", 1, 12)
    assert QueuedJob.parse({**ad, "ExitBySignal": True, "ExitSignal": 9}).status == 137
    away = {"JobStatus": 1, "VacateReason": "Job vacated by schedd", "LastRemoteHost": "slot1_1@node1@testbed"}
    job = QueuedJob.parse({**ad, **away})
    assert (job.state, job.node, job.vacated, job.status) == ("idle", "node1", "Job vacated by schedd", None)


def test_a_job_runs_once_its_node_has_the_image() -> None:
    ad = {"ClusterId": 7, "JobStatus": 2, "JobCurrentStartDate": 20, "JobCurrentStartExecutingDate": 9}
    assert QueuedJob.parse(ad).state == "fetching"
    assert QueuedJob.parse({**ad, "JobCurrentStartExecutingDate": 25}).state == "running"


def test_the_name_of_a_session_is_no_expression() -> None:
    assert session_constraint("a1b2") == 'CasabinderSession == "a1b2"'
    with pytest.raises(PoolError, match="is not the name of a session"):
        session_constraint('x" || true || "')


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("AUTHENTICATE:1003:Failed", "does not accept this session's token: AUTHENTICATE:1003:Failed"),
        ("the collector c:1 knows no schedd s", "HTCondor: the collector c:1 knows no schedd s"),
        ("Failed to connect to <127.0.0.1:9>", "schedd facility@testbed can't be reached"),
        (
            "Failed to fetch ads, errmsg=SECMAN:2004:Server rejected our session id",
            "schedd facility@testbed can't be reached",
        ),
        ('SECMAN:2010:Received "DENIED" from server', "does not accept this session's token: SECMAN:2010"),
        ("Failed communication with collector.", "collector 127.0.0.1:9 does not accept this session's token: Failed"),
        ("Queue is full", "schedd facility@testbed refused: Queue is full"),
    ],
)
def test_errors_of_the_bindings_are_sentences(address: ScheddAddress, message: str, sentence: str) -> None:
    assert sentence in explain(message, address, reached=True)


UNREACHABLE = r"HTCondor's collector 127\.0\.0\.1:9 can't be reached"


def bindings() -> int:
    """Return the number of this process's child with HTCondor's bindings."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    [child] = [int(pid) for pid in children if "bindings" in Path(f"/proc/{pid}/cmdline").read_text()]
    return child


def ask_twice(
    address: ScheddAddress, monkeypatch: pytest.MonkeyPatch, between: Callable[[], object] = lambda: None
) -> None:
    """Ask a schedd for its jobs, and then to remove those of another session; neither can be done."""
    monkeypatch.setenv("PYTHONPATH", str(RUNTIME))

    async def ask() -> None:
        schedd = Schedd(address, "a1b2c3", address.token.parent)
        try:
            with pytest.raises(PoolError, match=UNREACHABLE):
                await schedd.jobs()
            between()
            with pytest.raises(PoolError, match=UNREACHABLE):
                await schedd.remove_session("d4e5f6")
        finally:
            await schedd.close()

    asyncio.run(ask())


def test_a_collector_that_is_not_there_is_one_sentence(address: ScheddAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_twice(address, monkeypatch)


def test_a_child_that_was_killed_between_calls_is_replaced(
    address: ScheddAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_twice(address, monkeypatch, lambda: os.kill(bindings(), signal.SIGKILL))


def set_child(directory: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have this program run in the place of the child with HTCondor's bindings."""
    package = directory / "casabinder_runtime" / "pools"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "bindings.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(directory))


def test_an_answer_that_is_cut_off_is_none(
    address: ScheddAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As of a child that is killed while it writes."""
    set_child(tmp_path, monkeypatch, "print('{\"result\": ', end='')\n")
    with pytest.raises(PoolError, match="the process with HTCondor's bindings ended"):
        asyncio.run(Schedd(address, "a1b2c3", tmp_path).jobs())


def test_a_job_whose_files_did_not_arrive_is_removed_in_the_end(
    address: ScheddAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As when the schedd is restarted between a submission and the transfer of its files."""
    answer = '{"error": "SECMAN:2003:TCP connection failed", "reached": true, "submitted": true}'
    set_child(tmp_path, monkeypatch, f"import sys\nfor _ in sys.stdin: print({answer!r}, flush=True)\n")

    async def ask() -> None:
        schedd = Schedd(address, "a1b2c3", tmp_path)
        for ask in (schedd.submit("queue"), schedd.remove()):
            with pytest.raises(PoolError, match="can't be reached"):
                await ask
        await schedd.close()

    asyncio.run(ask())


def test_a_child_that_cannot_be_started_is_a_sentence(address: ScheddAddress, tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"HTCondor's bindings can't be started: .*No such file"):
        asyncio.run(Schedd(address, "a1b2c3", tmp_path / "nowhere").jobs())


def test_a_schedd_that_has_no_jobs_of_ours_is_not_asked_to_remove_them(
    address: ScheddAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(RUNTIME))

    async def ask() -> None:
        schedd = Schedd(address, "a1b2c3", address.token.parent)
        assert await schedd.remove() == 0
        with pytest.raises(PoolError, match=UNREACHABLE):
            await schedd.submit("queue")
        assert await schedd.remove() == 0
        await schedd.end_submitting()
        with pytest.raises(PoolError, match="the session is ending"):
            await schedd.submit("queue")
        await schedd.close()

    asyncio.run(ask())


def test_a_signal_for_the_sessions_process_group_leaves_the_child_alone(
    address: ScheddAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    ask_twice(address, monkeypatch, lambda: groups.append(os.getpgid(bindings())))
    assert os.getpgrp() not in groups
    assert len(groups) == 1
