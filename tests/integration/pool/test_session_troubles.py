"""What befalls a session's workers in a real HTCondor pool, in mid-analysis: the result, and what the notebook says."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from casabinder_runtime.errors import WorkerError
from casabinder_runtime.pools.submission import quoted_arguments
from casabinder_runtime.session_directory import RECORD, read_record
from casabinder_runtime.tls import create_session_certificates
from casabinder_runtime.worker_failure import check_trust
from distributed import Client

from builder.container.engine import docker
from tests.testbed.condor.image import PoolError
from tests.testbed.launching import engine_answers
from tests.testbed.pool import COMPLETED, HELD, RUNNING
from tests.testbed.pool_session import JOIN_SECONDS, SECRETS, running_pool_session, session_jobs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from builder.record import ImageRecord
    from tests.testbed.pool import RunningPool
    from tests.testbed.pool_session import PoolSession

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not engine_answers(), reason="there is no Docker Engine")]

KNOWABLE_SECONDS = 10
TWO = f"client.wait_for_workers(2, timeout={JOIN_SECONDS})\n"
SLOW_SQUARES = f"""
{TWO}
def square(number):
    time.sleep(0.5)
    return number * number
futures = client.map(square, range(40), pure=False)
futures[0].result()
print("begun", flush=True)
print(sum(client.gather(futures)), flush=True)
{TWO}
"""
SUM_OF_SQUARES = sum(number * number for number in range(40))


LOOKING = {
    "universe": "vanilla",
    "executable": "/bin/sh",
    "transfer_executable": "False",
    "should_transfer_files": "YES",
    "when_to_transfer_output": "ON_EXIT",
    "output": "output",
    "error": "error",
    "request_memory": "50MB",
    "request_disk": "5MB",
}


@contextmanager
def analysis(session: PoolSession, *sentences: str, of: Iterable[str] = ("",)) -> Iterator[subprocess.Popen[str]]:
    """Run an analysis, and in its middle what is in the block: its result must be right, and it must be told each
    sentence once; once ``of`` each worker, if there are several, whom one line may name together."""
    told = [(sentence, worker) for sentence in sentences for worker in of]
    process = session.start(SLOW_SQUARES + "".join(f"hear({sentence!r}, {worker!r})\n" for sentence, worker in told))
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n", f"{process.communicate()}\n{session.log()}"
    yield process
    said, errors = process.communicate(timeout=150)
    assert (process.returncode, said) == (0, f"{SUM_OF_SQUARES}\n"), f"{errors}\n{session.log()}"
    for sentence, worker in told:
        assert sum(sentence in line and worker in line for line in errors.splitlines()) == 1, errors


def running_jobs(pool: RunningPool) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the worker, the node and the ad of each job that runs."""
    running = [ad for ad in session_jobs(pool) if ad["JobStatus"] == RUNNING]
    return [(ad["CasabinderWorker"], ad["RemoteHost"].split("@")[1], ad) for ad in running]


def a_job(pool: RunningPool) -> tuple[str, str, dict[str, Any]]:
    """Return one of them."""
    return running_jobs(pool)[0]


def wait_for_log(session: PoolSession, worker: str, *, seconds: int = 60) -> str:
    """Return what an ended worker wrote, as soon as the session has it."""
    return session.run(
        f"end = time.time() + {seconds}\n"
        f"def lacks(): return not cluster.logs().get({worker!r})\n"
        "while lacks() and time.time() < end: time.sleep(0.3)\n"
        f"print(cluster.logs()[{worker!r}])"
    )


def wait_until(is_so: Callable[[], bool], session: PoolSession, seconds: int = JOIN_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, session.log()
        time.sleep(0.2)


def test_a_worker_that_is_scaled_down_ends_by_itself_and_its_log_is_kept(
    session: PoolSession, session_pool: RunningPool
) -> None:
    said = session.run(
        f"cluster.scale(3); client.wait_for_workers(3, timeout={JOIN_SECONDS})\n"
        "def mark():\n"
        "    import os; os.write(1, b'words on output\\n'); os.write(2, b'words on error\\n')\n"
        "client.run(mark)\n"
        "before = {worker['name'] for worker in cluster.workers.values()}\n"
        "kept = client.scatter({'a': 1}, broadcast=False)\n"
        "cluster.scale(2)\n"
        "while len(cluster.workers) > 2: time.sleep(0.1)\n"
        "print(*before - {worker['name'] for worker in cluster.workers.values()}, client.gather(kept))\n"
    )
    worker, _, rest = said.partition(" ")
    assert rest == "{'a': 1}\n"  # retired workers hand over what they hold
    log = wait_for_log(session, worker)
    assert "words on error" in log
    assert "words on output" in log
    wait_until(lambda: not session_pool.queue(f'CasabinderWorker == "{worker}"'), session)


def test_a_worker_that_is_killed_and_one_that_is_sent_away(session: PoolSession, session_pool: RunningPool) -> None:
    (killed, _, victim), (away, node, vacated) = running_jobs(session_pool)
    ended = (f"worker {killed} ended ", " (it was killed): another one is started")
    with analysis(session, *ended, f"worker {away} had to leave its node {node}"):
        [container] = docker("ps", "--quiet", "--filter", f"name=HTCJob{victim['ClusterId']}_").split()
        docker("kill", container)
        session_pool.vacate(f"{vacated['ClusterId']}.0")
    there = {job["CasabinderWorker"] for job in session_jobs(session_pool)}
    assert len(there) == 2
    assert away in there
    assert killed not in there
    assert "distributed.worker" in wait_for_log(session, killed)
    assert "Registered to" in wait_for_log(session, f"{away} (before)")


def test_a_node_that_is_lost(session: PoolSession, session_pool: RunningPool) -> None:
    _, node, _ = a_job(session_pool)
    lost = {worker for worker, its_node, _ in running_jobs(session_pool) if its_node == node}
    number = int(node.removeprefix("node"))
    try:
        with analysis(session, f"lost (its node {node} does not answer): ", of=lost):
            session_pool.stop_node(number)
    finally:
        session_pool.start_node(number)
    assert not lost & {job["CasabinderWorker"] for job in session_jobs(session_pool)}


def test_a_schedd_that_is_restarted(session: PoolSession, session_pool: RunningPool) -> None:
    before = {ad["CasabinderWorker"] for ad in session_jobs(session_pool)}
    schedd = f"HTCondor's schedd {session_pool.schedd}"
    told = (f"{schedd} can't be reached; workers that run go on", f"{schedd} answers again")
    with analysis(session, *told), session_pool.restarting_schedd():
        pass
    assert {ad["CasabinderWorker"] for ad in session_jobs(session_pool)} == before


def test_a_schedd_that_is_restarted_when_a_session_ends(
    session_pool: RunningPool, images: tuple[ImageRecord, ImageRecord], tmp_path: Path
) -> None:
    with running_pool_session(tmp_path, session_pool, images[0].image, workers=1) as session:
        [name] = (session.directory / "jobs").read_text().split()
        wait_until(lambda: name in {ad["CasabinderSession"] for ad in session_jobs(session_pool)}, session)
        with session_pool.restarting_schedd():
            docker("stop", "--time", "30", session.container)
        # The fixture finds that its job was removed.


def test_a_module_that_workers_lack(session: PoolSession) -> None:
    said, shown = session.start(
        "import needs\n"
        "try: client.submit(needs.one).result(timeout=150)\n"
        "except Exception as error: print(type(error).__name__)\n" + TWO
    ).communicate(timeout=240)
    assert said == "KilledWorker\n", f"{shown}\n{session.log()}"
    why = "a task could not be read: ModuleNotFoundError: No module named 'absent_on_workers': what tasks import"
    assert f"ended with status 1: {why}" in shown


def test_a_disk_that_is_full(session: PoolSession, session_pool: RunningPool) -> None:
    worker, node, _ = a_job(session_pool)
    number = int(node.removeprefix("node"))
    session_pool.fill_disk(number)
    try:
        said, shown = session.start(
            "def write():\n"
            "    import os\n"
            "    with open(os.environ['TMPDIR'] + '/file', 'wb') as file: file.write(bytes(2**20))\n"
            f"[address] = [key for key, one in cluster.workers.items() if one['name'] == {worker!r}]\n"
            "try: client.submit(write, workers=[address]).result(timeout=60)\n"
            "except OSError as error: print(error)\n"
            f"hear('the scratch disk of worker {worker} on', seconds={KNOWABLE_SECONDS})\n"
        ).communicate(timeout=120)
    finally:
        session_pool.empty_disk(number)
    assert "No space left on device" in said, shown
    assert f"the scratch disk of worker {worker} on" in shown
    session.run(TWO)


def test_a_worker_that_trusts_another_authority(
    session: PoolSession, session_pool: RunningPool, tmp_path: Path
) -> None:
    other = create_session_certificates(tmp_path / "other")
    authority = session.directory / "ca.pem"
    own = authority.read_bytes()
    go = session.secrets / "go"
    before = {ad["CasabinderWorker"] for ad in session_jobs(session_pool)}
    process = session.start(
        f"{TWO}import os\nprint('ready', flush=True)\n"
        f"while not os.path.exists('{SECRETS}/go'): time.sleep(0.1)\n"
        "cluster.scale(3)\n"
        "hear('status 1: this worker')\n"
        f"cluster.scale(2)\n{TWO}"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    authority.chmod(0o600)
    authority.write_bytes(other.ca.read_bytes())
    try:
        go.touch()
        wait_until(lambda: bool({ad["CasabinderWorker"] for ad in arrived(session_pool)} - before), session)
    finally:
        go.unlink()
        authority.write_bytes(own)
        authority.chmod(0o400)
    _, shown = process.communicate(timeout=120)
    assert "and the scheduler tls://127.0.0.1:" in shown
    assert "don't trust each other's certificates" in shown


def arrived(pool: RunningPool) -> list[dict[str, Any]]:
    """Return the jobs whose files are there."""
    return [ad for ad in session_jobs(pool) if ad["JobStatus"] != HELD]


def test_a_session_that_was_killed_is_cleaned_up_after(
    session_pool: RunningPool, images: tuple[ImageRecord, ImageRecord], tmp_path: Path
) -> None:
    others = {ad["CasabinderSession"] for ad in session_jobs(session_pool)}
    with running_pool_session(tmp_path, session_pool, images[0].image, workers=2) as session:
        session.run(TWO)
        first, [name] = session.directory, (session.directory / "jobs").read_text().split()
        assert {ad["CasabinderSession"] for ad in session_jobs(session_pool)} - others == {name}
        docker("kill", session.container)
        start_again(session, first)
        assert "2 workers of this notebook's earlier session were ended" in session.hear("earlier session")
        assert not first.exists()
        wait_until(lambda: not session_pool.queue(f'CasabinderSession == "{name}"'), session)

        # Workers whose scheduler is gone end by themselves, and their jobs with them.
        session.run(TWO)
        second, [name] = session.directory, (session.directory / "jobs").read_text().split()
        docker("kill", session.container)
        wait_until(lambda: not session_pool.queue(f'CasabinderSession == "{name}" && JobStatus != 4'), session)
        start_again(session, second)
        wait_until(lambda: not session_pool.queue(f'CasabinderSession == "{name}"'), session)


def start_again(session: PoolSession, before: Path) -> None:
    """Start the container of a session that was killed, and wait for its next session.

    It is started again where others of this machine take its port between its look for a free one and its use.
    """
    record = f"session-*/{RECORD}"
    wait_until(
        lambda: (
            bool(docker("start", session.container))
            and any(path.parent != before for path in session.secrets.glob(record))
        ),
        session,
    )


def test_another_users_session_has_no_way_in(session: PoolSession, session_pool: RunningPool, tmp_path: Path) -> None:
    """Bob has certificates of a session of his own, a token, and the address of alice's scheduler."""
    record = read_record(session.directory)
    assert record is not None
    his = create_session_certificates(tmp_path / "bob")
    with pytest.raises(OSError, match=r"(?i)certificate|timed out|closed|unknown ca"):
        Client(record.address, security=his.security("client"), timeout="4s", set_as_default=False)
    with pytest.raises(OSError):  # noqa: PT011  # in plain text it waits for a greeting that does not come
        Client(record.address.replace("tls", "tcp"), timeout="4s", set_as_default=False)
    with pytest.raises(WorkerError, match="don't trust each other's certificates"):
        asyncio.run(check_trust(record.address, his.security("worker")))
    half = his.security("worker")
    half.tls_ca_file = str(session.directory / "ca.pem")  # as if he knew it: it is no secret
    with pytest.raises(WorkerError, match="don't trust each other's certificates"):
        asyncio.run(check_trust(record.address, half))


def test_another_user_does_not_touch_jobs_nor_sees_what_is_in_them(
    session: PoolSession, session_pool: RunningPool, tmp_path: Path
) -> None:
    worker, node, ad = a_job(session_pool)
    mine = f"ClusterId == {ad['ClusterId']}"
    bob = session_pool.token("bob")
    for action in ("Remove", "Hold", "Vacate"):
        request = {"do": "act", "action": action, "constraint": mine}
        assert session_pool.ask(request, directory=tmp_path, token=bob) == {"changed": 0}
    with suppress(PoolError):  # refused, or nothing is given
        session_pool.ask({"do": "retrieve", "constraint": mine}, directory=tmp_path, token=bob)
    assert list(tmp_path.iterdir()) == []
    owner = {"MY.Owner": '"alice"', "MY.User": '"alice@testbed"'}
    as_alice = {"do": "submit", "description": LOOKING | owner | {"arguments": "\"-c 'exit 0'\"", "output": "o"}}
    with suppress(PoolError):  # refused, or his own all the same
        session_pool.ask(as_alice, directory=tmp_path, token=bob)
    assert all(job["Owner"] == "bob" for job in session_pool.queue('Cmd == "/bin/sh" && CasabinderWorker is undefined'))
    # His job runs beside hers, on her node, where her key lies in a directory of her job.
    hers = f"{session_pool.execute_directory(int(node.removeprefix('node')))}/dir_*/scratch"
    look = f"cat {hers}/worker.key; find {hers} -name worker.key; ls {hers}; id -un"
    wanted = {"arguments": quoted_arguments(["-c", look]), "requirements": f'FileSystemDomain == "{node}"'}
    job = session_pool.submit(LOOKING | wanted, directory=tmp_path / "job", identity="bob")
    session_pool.wait_for(job, COMPLETED)
    said = (session_pool.retrieve(job, identity="bob") / "output").read_text()
    assert said.splitlines()[-1] == "bob"
    assert "PRIVATE KEY" not in said
    assert "worker.key" not in said
    assert (tmp_path / "job" / "error").read_text().count("Permission denied") > 0
    assert session_pool.job(f"{ad['ClusterId']}.0")["JobStatus"] == RUNNING
    assert worker in {job["CasabinderWorker"] for job in session_jobs(session_pool)}
