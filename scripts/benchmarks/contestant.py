"""Runs the example analysis again and again on workers of a pool, in the notebook's container.

``contestant.py own`` uses the session of the container, ``contestant.py by-hand JSON`` dask-jobqueue as one would by
hand: an ``HTCondorCluster`` that submits docker-universe jobs of the same image, without TLS, guard and watch. It is a
program of its own, copied into the container by ``scripts/bench workers``. It says how long the workers took to come,
then answers each line ``go`` with a run.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

WORKERS = 2


def own_client() -> Client:
    """Return a client of the session's workers."""
    from casabinder_runtime import FacilityCluster

    return FacilityCluster(WORKERS).get_client()


def by_hand(pool: dict[str, str]) -> Client:
    """Return a client of a cluster made by hand; the condor programs are not in the image, so the bindings submit."""
    os.environ.update(pool["environment"])
    import htcondor2
    from dask_jobqueue.htcondor import HTCondorCluster, HTCondorJob

    def schedd() -> Any:
        return htcondor2.Schedd(
            htcondor2.Collector(pool["collector"]).locate(htcondor2.DaemonType.Schedd, pool["schedd"])
        )

    def submit(text: str) -> int:
        at = schedd()
        result = at.submit(htcondor2.Submit(text), spool=True)
        at.spool(result)
        return int(result.cluster())

    class BoundJob(HTCondorJob):
        async def _submit_job(self, script_filename: str) -> str:
            lines = Path(script_filename).read_text().splitlines()
            text = "\n".join(line for line in lines if line.strip().lower() != "queue" and not line.startswith("#!"))
            return f"1 job(s) submitted to cluster {await asyncio.to_thread(submit, text)}."

        @classmethod
        async def _close_job(cls, job_id: str, cancel_command: str) -> None:  # noqa: ARG003  # dask-jobqueue's own
            constraint = f"ClusterId == {job_id.split('.', maxsplit=1)[0]}"
            await asyncio.to_thread(lambda: schedd().act(htcondor2.JobAction.Remove, constraint))

    class BoundCluster(HTCondorCluster):
        job_cls = BoundJob

    cluster = BoundCluster(
        cores=1,
        processes=1,
        memory="1GiB",
        disk="200MiB",
        nanny=False,
        python="/srv/env/bin/python",
        death_timeout=60,
        local_directory="dask",
        worker_extra_args=["--host", "127.0.0.1", "--no-dashboard"],
        scheduler_options={"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
        job_extra_directives={
            "universe": "docker",
            "docker_image": pool["image"],
            "docker_network_type": "host",
            "docker_override_entrypoint": "True",
            "transfer_executable": "false",
            "should_transfer_files": "yes",
            "when_to_transfer_output": "on_exit",
            "environment": '"HOME=. PYTHONPATH=/srv/repo XRD_LOGLEVEL=Error"',
            "output": "worker.out",
            "error": "worker.err",
        },
    )
    cluster.scale(WORKERS)
    return cluster.get_client()


def main() -> None:
    """Do what the module says."""
    sys.path.insert(0, "/srv/repo")
    began = time.monotonic()
    client = own_client() if sys.argv[1] == "own" else by_hand(json.loads(sys.argv[2]))
    client.wait_for_workers(WORKERS, timeout=300)
    print(json.dumps({"ready": time.monotonic() - began}), flush=True)  # this is its answer

    import ttbar
    from coffea import processor
    from coffea.nanoevents import NanoAODSchema

    fileset = ttbar.fileset(os.environ["AGC_DATA"])
    for _ in sys.stdin:
        executor = processor.DaskExecutor(client=client, status=False)
        runner = processor.Runner(executor=executor, schema=NanoAODSchema, chunksize=10_000)
        began = time.monotonic()
        output = runner(fileset, processor_instance=ttbar.TtbarAnalysis())
        seconds = time.monotonic() - began
        print(json.dumps({"seconds": seconds, "events": int(output["events"])}), flush=True)
    client.shutdown()


if __name__ == "__main__":
    main()
