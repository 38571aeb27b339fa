"""What TLS and the guard cost, with local processes: the example analysis, bulk transfer, and 100 workers that join."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casabinder_runtime.scheduler_plugin import EnvironmentGuard
from casabinder_runtime.tls import create_session_certificates
from distributed import Client, LocalCluster, Scheduler, Security

from registry_sync.errors import CasabinderError
from tests.testbed.identity import ENV_ID, write_identity

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "agc-ttbar"
MEGABYTES = 200
PROCESSES = 4
TIMEOUT = 300.0
KINDS = ("guard and TLS", "TLS", "plain")


def tls_cost(data: Path, runs: int) -> dict[str, Any]:
    """Run the analysis on two local worker processes, over TLS and without, in turn; and move arrays to the client.

    Returns seconds per run of the analysis, and MB per second of a transfer of ``MEGABYTES``, by protocol.
    """
    sys.path.insert(0, str(EXAMPLE))
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-tls-")))
        security = create_session_certificates(work / "tls").security("scheduler", "worker", "client")
        clients = {
            "TLS": stack.enter_context(_local_client(stack, work, security)),
            "TCP": stack.enter_context(_local_client(stack, work, None)),
        }
        found: dict[str, Any] = {name: {"seconds": [], "megabytes_per_second": []} for name in clients}
        for number in range(runs + 1):
            order = list(clients) if number % 2 else list(reversed(clients))
            for name in order:
                seconds, rate = _analyse(clients[name], data), _transfer(clients[name])
                if number:  # the first run imports coffea on the workers
                    found[name]["seconds"].append(seconds)
                    found[name]["megabytes_per_second"].append(rate)
        return found


def _local_client(stack: ExitStack, work: Path, security: Security | None) -> Client:
    cluster = stack.enter_context(
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            local_directory=str(work),
            protocol="tls://" if security else "tcp://",
            security=security,
            env={"PYTHONPATH": os.pathsep.join([str(EXAMPLE), os.environ.get("PYTHONPATH", "")])},
        )
    )
    return Client(cluster)


def _analyse(client: Client, data: Path) -> float:
    import ttbar  # type: ignore[import-not-found]  # of the example
    from coffea import processor
    from coffea.nanoevents import NanoAODSchema

    executor = processor.DaskExecutor(client=client, status=False)
    runner = processor.Runner(executor=executor, schema=NanoAODSchema, chunksize=10_000)
    began = time.monotonic()
    runner(ttbar.fileset(str(data)), processor_instance=ttbar.TtbarAnalysis())
    return time.monotonic() - began


def _transfer(client: Client) -> float:
    """Return the MB per second at which a result comes from a worker to its client."""
    future = client.submit(os.urandom, MEGABYTES * 10**6, pure=False)
    while not future.done():
        time.sleep(0.01)
    began = time.monotonic()
    client.gather(future, direct=True)
    return MEGABYTES / (time.monotonic() - began)


def many_workers(workers: int, runs: int) -> dict[str, list[float]]:
    """Return the seconds until so many workers have joined one scheduler, by kind of session.

    They are ``distributed.Worker`` objects in ``PROCESSES`` processes, which have imported everything when the clock
    starts: what is measured is starting servers, connecting, the guard, and registration.
    """
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(runs):
        kinds = KINDS[number % len(KINDS) :] + KINDS[: number % len(KINDS)]
        for kind in kinds:
            found[kind].append(asyncio.run(_join(workers, kind)))
    return found


async def _join(workers: int, kind: str) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-join-") as name:
        work = Path(name)
        tls = create_session_certificates(work / "tls")
        options: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        }
        if kind != "plain":
            options |= {"protocol": "tls://", "security": tls.security("scheduler")}
        if kind == "guard and TLS":
            options["plugins"] = [EnvironmentGuard(ENV_ID)]
        async with Scheduler(**options) as scheduler:
            identity = str(write_identity(work / "env.json")) if kind == "guard and TLS" else ""
            certificates = str(work / "tls") if kind != "plain" else ""
            share = workers // PROCESSES
            command = [sys.executable, "-m", "scripts.benchmarks.workers_here", scheduler.address, str(share)]
            environment = {**os.environ, "CASABINDER_ENV_ID": ENV_ID}
            with (work / "workers.log").open("wb") as log:
                processes = [
                    subprocess.Popen(
                        [*command, certificates, identity],
                        cwd=work,
                        env=environment,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                    )
                    for _ in range(PROCESSES)
                ]
            try:
                for process in processes:
                    assert process.stdout is not None  # noqa: S101  # by construction
                    if not await asyncio.to_thread(process.stdout.readline):
                        raise CasabinderError(f"the workers do not start: {(work / 'workers.log').read_text()[-2000:]}")
                began = time.monotonic()
                for process in processes:
                    assert process.stdin is not None  # noqa: S101  # by construction
                    process.stdin.write(b"go\n")
                    process.stdin.flush()
                async with asyncio.timeout(TIMEOUT):
                    while len(scheduler.running) < share * PROCESSES:
                        await asyncio.sleep(0.01)
                return time.monotonic() - began
            finally:
                for process in processes:
                    process.kill()
                    process.wait()


async def start_workers(address: str, count: int, certificates: str, identity: str) -> None:
    """Be the process of ``count`` workers: import, say so, wait for a word, start them all, and stay."""
    from distributed import Worker

    options: dict[str, Any] = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "host": "127.0.0.1"}
    if certificates:
        files = {name: str(Path(certificates, f"worker.{end}")) for name, end in (("cert", "pem"), ("key", "key"))}
        options["security"] = Security(
            require_encryption=True,
            tls_ca_file=str(Path(certificates, "ca.pem")),
            tls_worker_cert=files["cert"],
            tls_worker_key=files["key"],
        )
    if identity:
        options |= {"preload": ["casabinder_runtime.guard"], "preload_argv": ["--identity", identity]}
        __import__("casabinder_runtime.guard")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    work = tempfile.mkdtemp(dir=".")
    await asyncio.gather(*(Worker(address, local_directory=f"{work}/{number}", **options) for number in range(count)))
    await asyncio.Event().wait()


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how many times as long ``one`` takes as ``other``, by medians."""
    return statistics.median(one) / statistics.median(other)


def main() -> None:
    """Be a process of workers."""
    address, count, certificates, identity = sys.argv[1:]
    asyncio.run(start_workers(address, int(count), certificates, identity))


if __name__ == "__main__":
    main()
