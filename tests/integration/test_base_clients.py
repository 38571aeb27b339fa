"""Clients of other services in the default base: what they do there, and what they say where nobody listens."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from casabinder_runtime.ports import first_free_port

from tests.testbed import in_image
from tests.testbed.launching import base_image, engine_answers, open_facility
from tests.testbed.s3 import running_s3

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

# The compiled half of classad3 is not in htcondor's wheel; htcondor2, which the runtime uses, has classad2.
NOT_IMPORTABLE = ["classad3: No module named 'classad3.classad3_impl'"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What all checks come to, in one container."""
    program = Path(in_image.__file__).with_name("base_clients.py")
    closed = first_free_port(21_500)
    with running_s3(tmp_path_factory.mktemp("s3")) as s3, open_facility() as context:
        command = ["docker", "run", "--rm", "--network=host", f"--volume={program}:/checks.py:ro"]
        command += [base_image(context, "coffea-py313"), "/srv/env/bin/python", "/checks.py", str(closed), s3]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    results: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return results


def test_every_package_of_the_base_imports(found: dict[str, object]) -> None:
    assert found["imports"] == NOT_IMPORTABLE


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("s3", "['bucket/one.root'] 499500"),
        ("mlflow, directory", "{'b_tag': '0.5'} {'signal': 12.5} 4j2b [2, 4]"),
        ("triton, request", "[1, 2] 8 bytes"),
    ],
)
def test_a_client_works(found: dict[str, object], check: str, expected: str) -> None:
    assert found[check] == expected


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        ("s3, nobody there", "EndpointConnectionError: Could not connect to the endpoint URL"),
        ("mlflow, nobody there", "MlflowException: API request to http://127.0.0.1:"),
        ("servicex, unknown", "ValueError: Backend elsewhere not defined in /tmp/clients/servicex.yaml file."),
        ("servicex, nobody there", "ConnectError: All connection attempts failed"),
        ("triton over http, nobody there", "ConnectionRefusedError: [Errno 111] Connection refused"),
        ("triton over grpc, nobody there", "InferenceServerException: [StatusCode.UNAVAILABLE] failed to connect"),
        ("rucio, version", "0 rucio "),
        ("rucio, no configuration", "Could not load Rucio configuration file."),
        ("rucio, nobody there", "Cannot connect to the Rucio server."),
    ],
)
def test_a_client_says_what_is_missing(found: dict[str, object], check: str, sentence: str) -> None:
    assert sentence in str(found[check])
