"""Describes a worker's job in HTCondor's submit language: a pure function of the session and the site.

    PoolSite, WorkerShape ──▶ describe() ──▶ {"universe": "docker", ...} ──▶ submit_text() ──▶ htcondor2.Submit

Two universes run the notebook's own image. In the docker universe it is pulled by its immutable tag: HTCondor tags what
it has pulled for its cache, which Docker refuses for a reference by digest (src/condor_starter.V6.1/docker_proc.cpp).
In the container universe it is a directory (unpacked on CVMFS), a SIF file or a ``docker://`` address. Apptainer skips
entry points, so the docker universe is told to skip it too, and the worker command calls it in both.

No secret is in a description: they are files, named here, that HTCondor transfers encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from casabinder_runtime.errors import PoolError
from casabinder_runtime.forwarded_port import SERVICE, UNKNOWN, UNREACHABLE
from casabinder_runtime.worker_logs import error_file, output_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

WRONG_IMAGE = 78  # the exit status of casabinder_runtime.guard, which cannot be imported without Dask
FORWARDED_PORT = 8788  # on which a worker listens whose container has a network of its own
KEPT_SECONDS = 600  # a finished job stays in the queue for so long, should nobody fetch its output
HELD_SECONDS = 3600
VACATE_SECONDS = 60  # what a worker that must go has to hand over its results
MEBIBYTE = 2**20
SESSION_ATTRIBUTE = "CasabinderSession"
WORKER_ATTRIBUTE = "CasabinderWorker"


@dataclass(frozen=True)
class PoolSite:
    """What the site decides: ``image`` as this universe names it, and where and on whose account jobs run.

    In the ``network`` ``host`` a worker has the node's addresses; with ``nat`` (docker universe) its container has one
    of its own, and Docker forwards a port of the node to it.
    """

    image: str
    universe: Literal["docker", "container"] = "docker"
    network: Literal["host", "nat"] = "host"
    accounting_group: str = ""
    requirements: str = ""
    keep_claim_seconds: int = 600
    directives: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "@sha256:" in self.image:
            raise PoolError(f"HTCondor can't keep an image that is named by digest: name {self.image} by its tag")
        if self.image.startswith("oras://"):
            raise PoolError(
                f"HTCondor takes {self.image} for a directory: name a SIF file by its path, or by osdf:// or https://"
            )
        if self.network == "nat" and self.universe == "container":
            raise PoolError("Apptainer runs workers in the node's own network: nat is for the docker universe")


@dataclass(frozen=True)
class WorkerShape:
    """What one worker asks for: cores, memory and disk in bytes, GPUs.

    ``cuda_driver`` is the least version of CUDA that the driver of the GPUs must support, such as ``12.4``.
    """

    cores: int
    memory: int
    disk: int
    gpus: int = 0
    cuda_driver: str = ""


@dataclass(frozen=True)
class WorkerIdentity:
    """Which worker of which session a job is, and the environment that its image must hold."""

    name: str
    session: str
    env_id: str


def describe(
    worker: WorkerIdentity, site: PoolSite, shape: WorkerShape, command: str, files: Sequence[Path]
) -> dict[str, str]:
    """Return the submit commands of a worker's job.

    ``command`` is a line of shell that ends as the worker; ``files`` are transferred into the job's working directory,
    encrypted and under their own names. Values are in HTCondor's syntax.

    Raises:
        PoolError: a directive of the site is set here already, or is not one line.
    """
    transferred = ", ".join(str(path) for path in files)
    description = {
        **_container(site),
        "executable": "/bin/sh",
        "transfer_executable": "False",  # HTCondor 24 and newer look for it beside the submitter otherwise
        "arguments": quoted_arguments(["-c", f"exec {command}"]),
        "environment": quoted_environment({"CASABINDER_ENV_ID": worker.env_id, **site.environment}),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": transferred,
        "encrypt_input_files": transferred,
        "transfer_output_files": '""',
        "output": output_file(worker.name),
        "error": error_file(worker.name),
        "request_cpus": str(shape.cores),
        "request_memory": f"{-(-shape.memory // MEBIBYTE)}MB",
        "request_disk": f"{-(-shape.disk // 1024)}KB",
        **_gpus(shape),
        "keep_claim_idle": str(site.keep_claim_seconds),
        "job_max_vacate_time": str(VACATE_SECONDS),
        **_holds(worker, site),
        "leave_in_queue": f"JobStatus == 4 && time() - CompletionDate < {KEPT_SECONDS}",
        # A session that was killed leaves nobody who would remove its jobs; 16 is a job that waits for its input files.
        "periodic_remove": f"JobStatus == 5 && HoldReasonCode =!= 16 && time() - EnteredCurrentStatus > {HELD_SECONDS}",
        "batch_name": f"casabinder-{worker.session}",
        "MY.CasabinderEnvId": _string(worker.env_id),
        f"MY.{SESSION_ATTRIBUTE}": _string(worker.session),
        f"MY.{WORKER_ATTRIBUTE}": _string(worker.name),
        "MY.DaskWorkerName": _string(worker.name),
    }
    if site.accounting_group:
        description["accounting_group"] = site.accounting_group
    if site.requirements:
        description["requirements"] = site.requirements
    return {**description, **_directives(site.directives, description)}


def submit_text(description: Mapping[str, str]) -> str:
    """Return a description as a submit file of one job."""
    return "".join(f"{name} = {value}\n" for name, value in description.items()) + "queue\n"


def quoted_arguments(words: Sequence[str]) -> str:
    """Return ``words`` in the new syntax of ``arguments``: each in single quotes, all in double ones."""
    quoted = ("'" + word.replace("'", "''").replace('"', '""') + "'" for word in words)
    return '"' + " ".join(quoted) + '"'


def quoted_environment(variables: Mapping[str, str]) -> str:
    """Return variables in the new syntax of ``environment``: values in single quotes where they need it."""
    entries = []
    for name, value in variables.items():
        text = value.replace("'", "''").replace('"', '""')
        entries.append(f"{name}={text}" if value and not set(value) & set(" '") else f"{name}='{text}'")
    return '"' + " ".join(entries) + '"'


def _container(site: PoolSite) -> dict[str, str]:
    if site.universe == "docker":
        port = {"container_service_names": SERVICE, f"{SERVICE}_container_port": str(FORWARDED_PORT), **UNKNOWN}
        forwarded = port if site.network == "nat" else {}
        return {
            "universe": "docker",
            "docker_image": site.image,
            "docker_override_entrypoint": "True",
            "docker_network_type": site.network,
            **forwarded,
        }
    local = {"transfer_container": "False"} if site.image.startswith("/") else {}
    return {"universe": "container", "container_image": site.image, "container_target_dir": "/srv/job", **local}


def _gpus(shape: WorkerShape) -> dict[str, str]:
    """Return the request for GPUs; HTCondor compares the version of CUDA with their ``MaxSupportedVersion``."""
    if not shape.gpus:
        return {}
    driver = {"gpus_minimum_runtime": shape.cuda_driver} if shape.cuda_driver else {}
    return {"request_gpus": str(shape.gpus), **driver}


def _holds(worker: WorkerIdentity, site: PoolSite) -> dict[str, str]:
    """Return which ends of a worker would be those of any other one too, so that its job is held with the reason."""
    wrong = _string(f"the worker's image does not hold the environment {worker.env_id}")
    if site.network == "host":
        statuses, reason = f"(ExitCode =?= {WRONG_IMAGE})", wrong
    else:
        statuses = f"(ExitCode =?= {WRONG_IMAGE} || ExitCode =?= {UNREACHABLE})"
        unreachable = _string(
            "HTCondor does not say which port of the node leads to the worker: does the image expose another (EXPOSE)?"
        )
        reason = f"ifThenElse(ExitCode =?= {UNREACHABLE}, {unreachable}, {wrong})"
    return {
        "on_exit_hold": f"(ExitBySignal =?= False) && {statuses}",
        "on_exit_hold_reason": reason,
        "on_exit_hold_subcode": str(WRONG_IMAGE) if site.network == "host" else "ExitCode",
    }


def _directives(directives: Mapping[str, str], description: Mapping[str, str]) -> dict[str, str]:
    own = {name.lower() for name in description}
    for name, value in directives.items():
        if name.lower() in own:
            raise PoolError(f"the pool's directive {name} is set by casabinder itself: leave it out of the site's")
        if "\n" in name + value or "=" in name or not name.strip():
            raise PoolError(f"the pool's directive {name!r} is not one line of a submit file")
    return dict(directives)


def _string(text: str) -> str:
    """Return a ClassAd string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
