from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import htcondor2
import pytest
from casabinder_runtime.errors import PoolError
from casabinder_runtime.guard import WRONG_IMAGE
from casabinder_runtime.pools import submission
from casabinder_runtime.pools.submission import (
    PoolSite,
    WorkerIdentity,
    WorkerShape,
    describe,
    quoted_arguments,
    quoted_environment,
    submit_text,
)

SITE = PoolSite("registry.example.org/casabinder/x:0123456789abcdef", accounting_group="cms.other")
WORKER = WorkerIdentity("casabinder-htcondor-0", "a1b2c3", "5ca1ab1e5ca1ab1e")
SHAPE = WorkerShape(cores=2, memory=3 * 10**9, disk=4 * 2**30)
COMMAND = "/srv/env/bin/python -P -m casabinder_runtime.worker tls://192.0.2.1:8786 --name casabinder-htcondor-0"
FILES = [Path("/run/casabinder/s/ca.pem"), Path("/run/casabinder/s/worker.key")]

COMMON = """\
executable = /bin/sh
transfer_executable = False
arguments = "'-c' 'exec /srv/env/bin/python -P -m casabinder_runtime.worker tls://192.0.2.1:8786 --name \
casabinder-htcondor-0'"
environment = "CASABINDER_ENV_ID=5ca1ab1e5ca1ab1e"
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
transfer_input_files = /run/casabinder/s/ca.pem, /run/casabinder/s/worker.key
encrypt_input_files = /run/casabinder/s/ca.pem, /run/casabinder/s/worker.key
transfer_output_files = ""
output = casabinder-htcondor-0.out
error = casabinder-htcondor-0.err
request_cpus = 2
request_memory = 2862MB
request_disk = 4194304KB
keep_claim_idle = 600
job_max_vacate_time = 60
on_exit_hold = (ExitBySignal =?= False) && (ExitCode =?= 78)
on_exit_hold_reason = "the worker's image does not hold the environment 5ca1ab1e5ca1ab1e"
on_exit_hold_subcode = 78
leave_in_queue = JobStatus == 4 && time() - CompletionDate < 600
periodic_remove = JobStatus == 5 && HoldReasonCode =!= 16 && time() - EnteredCurrentStatus > 3600
batch_name = casabinder-a1b2c3
MY.CasabinderEnvId = "5ca1ab1e5ca1ab1e"
MY.CasabinderSession = "a1b2c3"
MY.CasabinderWorker = "casabinder-htcondor-0"
MY.DaskWorkerName = "casabinder-htcondor-0"
accounting_group = cms.other
"""
DOCKER = """\
universe = docker
docker_image = registry.example.org/casabinder/x:0123456789abcdef
docker_override_entrypoint = True
docker_network_type = host
"""
CONTAINER = """\
universe = container
container_image = /cvmfs/unpacked.example.org/casabinder/x:0123456789abcdef
container_target_dir = /srv/job
transfer_container = False
"""
UNPACKED = PoolSite(
    "/cvmfs/unpacked.example.org/casabinder/x:0123456789abcdef", universe="container", accounting_group="cms.other"
)


NAT = """\
universe = docker
docker_image = registry.example.org/casabinder/x:0123456789abcdef
docker_override_entrypoint = True
docker_network_type = nat
container_service_names = dask
dask_container_port = 8788
MY.dask_HostPort = undefined
"""
SIF = """\
universe = container
container_image = /shared/sif/0123456789abcdef.sif
container_target_dir = /srv/job
transfer_container = False
"""
FETCHED_SIF = """\
universe = container
container_image = osdf:///casabinder/0123456789abcdef.sif
container_target_dir = /srv/job
"""
PULLED = """\
universe = container
container_image = docker://registry.example.org/casabinder/x:0123456789abcdef
container_target_dir = /srv/job
"""
TWO_ENDS = """\
on_exit_hold = (ExitBySignal =?= False) && (ExitCode =?= 78 || ExitCode =?= 79)
on_exit_hold_reason = ifThenElse(ExitCode =?= 79, "HTCondor does not say which port of the node leads to the worker: \
does the image expose another (EXPOSE)?", "the worker's image does not hold the environment 5ca1ab1e5ca1ab1e")
on_exit_hold_subcode = ExitCode
"""
ONE_END = """\
on_exit_hold = (ExitBySignal =?= False) && (ExitCode =?= 78)
on_exit_hold_reason = "the worker's image does not hold the environment 5ca1ab1e5ca1ab1e"
on_exit_hold_subcode = 78
"""
GPUS = "request_gpus = 2\ngpus_minimum_runtime = 12.4\n"
DISK = "request_disk = 4194304KB\n"

GOLDEN = {
    "docker, host": (SITE, SHAPE, f"{DOCKER}{COMMON}"),
    "docker, nat": (replace(SITE, network="nat"), SHAPE, f"{NAT}{COMMON.replace(ONE_END, TWO_ENDS)}"),
    "docker, GPUs": (
        SITE,
        replace(SHAPE, gpus=2, cuda_driver="12.4"),
        f"{DOCKER}{COMMON.replace(DISK, DISK + GPUS)}",
    ),
    "container, unpacked directory": (UNPACKED, SHAPE, f"{CONTAINER}{COMMON}"),
    "container, SIF": (replace(UNPACKED, image="/shared/sif/0123456789abcdef.sif"), SHAPE, f"{SIF}{COMMON}"),
    "container, SIF that is fetched": (
        replace(UNPACKED, image="osdf:///casabinder/0123456789abcdef.sif"),
        SHAPE,
        f"{FETCHED_SIF}{COMMON}",
    ),
    "container, registry": (replace(UNPACKED, image=f"docker://{SITE.image}"), SHAPE, f"{PULLED}{COMMON}"),
    "keep-claim, accounting group, requirements, directives": (
        replace(
            SITE,
            accounting_group="cms.alice",
            requirements="HasCVMFS && OpSysMajorVer >= 9",
            keep_claim_seconds=60,
            directives={"require_gpus": "Capability >= 8.0", "MY.Project": '"cms"'},
        ),
        SHAPE,
        DOCKER
        + COMMON.replace("keep_claim_idle = 600", "keep_claim_idle = 60").replace("cms.other", "cms.alice")
        + 'requirements = HasCVMFS && OpSysMajorVer >= 9\nrequire_gpus = Capability >= 8.0\nMY.Project = "cms"\n',
    ),
}


@pytest.mark.parametrize(("site", "shape", "text"), GOLDEN.values(), ids=GOLDEN)
def test_the_description_is_what_it_always_was(site: PoolSite, shape: WorkerShape, text: str) -> None:
    assert submit_text(describe(WORKER, site, shape, COMMAND, FILES)) == f"{text}queue\n"


@pytest.mark.parametrize(("site", "shape", "text"), GOLDEN.values(), ids=GOLDEN)
def test_htcondors_own_library_reads_every_line(site: PoolSite, shape: WorkerShape, text: str) -> None:
    description = describe(WORKER, site, shape, COMMAND, FILES)
    parsed = htcondor2.Submit(text + "queue\n")
    assert {name.lower(): parsed[name] for name in parsed} == {
        name.lower(): value for name, value in description.items()
    }


def test_what_htcondor_takes_for_a_directory_and_what_apptainer_does_not_know() -> None:
    with pytest.raises(PoolError, match=r"HTCondor takes oras://example.org/x:1 for a directory: name a SIF file"):
        replace(UNPACKED, image="oras://example.org/x:1")
    with pytest.raises(PoolError, match="nat is for the docker universe"):
        replace(UNPACKED, network="nat")


def test_a_version_of_cuda_without_gpus_asks_for_nothing() -> None:
    assert "gpus_minimum_runtime" not in describe(WORKER, SITE, replace(SHAPE, cuda_driver="12.4"), COMMAND, FILES)


def test_arguments_keep_their_quotes() -> None:
    assert quoted_arguments(["-c", "echo 'a' \"b\""]) == "\"'-c' 'echo ''a'' \"\"b\"\"'\""


def test_settings_of_the_site_are_in_the_environment() -> None:
    site = replace(SITE, environment={"XCACHE_HOST": "xcache.example.org", "XRD_APPNAME": 'it\'s "a" b', "EMPTY": ""})
    text = describe(WORKER, site, SHAPE, COMMAND, FILES)["environment"]
    assert text == (
        "\"CASABINDER_ENV_ID=5ca1ab1e5ca1ab1e XCACHE_HOST=xcache.example.org XRD_APPNAME='it''s \"\"a\"\" b' EMPTY=''\""
    )
    assert quoted_environment({"A": "=b"}) == '"A==b"'


def test_the_guards_exit_status_is_the_one_that_holds_a_job() -> None:
    assert submission.WRONG_IMAGE == WRONG_IMAGE


def test_an_image_by_digest_is_refused() -> None:
    with pytest.raises(PoolError, match="can't keep an image that is named by digest"):
        PoolSite("registry.example.org/x@sha256:" + "0" * 64)


def test_the_sites_directives_come_last_and_change_nothing_of_ours() -> None:
    site = replace(SITE, requirements="HasGPU", directives={"concurrency_limits": "casabinder"})
    assert list(describe(WORKER, site, SHAPE, COMMAND, FILES).items())[-2:] == [
        ("requirements", "HasGPU"),
        ("concurrency_limits", "casabinder"),
    ]
    with pytest.raises(PoolError, match="the pool's directive Docker_Image is set by casabinder itself"):
        describe(WORKER, replace(SITE, directives={"Docker_Image": "x"}), SHAPE, COMMAND, FILES)
    for name, value in [("a", "b\nqueue"), ("a = b\nc", "d"), ("", "x")]:
        with pytest.raises(PoolError, match="is not one line"):
            describe(WORKER, replace(SITE, directives={name: value}), SHAPE, COMMAND, FILES)
