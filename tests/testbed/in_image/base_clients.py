"""What the clients of other services do in a base image; prints JSON in its last line: check -> what came of it.

    python base_clients.py CLOSED_PORT S3_URL

A check gives a text or a number, or the type and the text of its error: ``OSError: ...``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HOME = Path("/tmp/clients")


def import_everything() -> list[str]:
    """Import every top-level package and module of the environment; return a line for each that fails."""
    found = importlib.metadata.packages_distributions()
    names = sorted(name for name in found if name.isidentifier() and not name.startswith("_"))
    failed = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # whatever it is
            failed.append(f"{name}: {error}")
    assert len(names) > 100, names
    return failed


def read_from_s3(url: str) -> str:
    """Make a bucket with a ROOT file, and read it: with s3fs, and through uproot."""
    import numpy
    import s3fs
    import uproot

    options = {"endpoint_url": url, "key": "key", "secret": "secret", "config_kwargs": {"retries": {"max_attempts": 0}}}
    files = s3fs.S3FileSystem(**options)
    files.mkdir("bucket")
    with uproot.recreate(HOME / "one.root") as file:
        file["Events"] = {"x": numpy.arange(1000)}
    files.put(str(HOME / "one.root"), "bucket/one.root")
    with uproot.open("s3://bucket/one.root:Events", handler=uproot.source.fsspec.FSSpecSource, **options) as events:
        return f"{files.ls('bucket')} {events['x'].array(library='np').sum()}"


def list_with_s3(url: str) -> object:
    """Ask an S3 server for a bucket."""
    import s3fs

    options = {"key": "key", "secret": "secret", "config_kwargs": {"retries": {"max_attempts": 0}}}
    return s3fs.S3FileSystem(endpoint_url=url, **options).ls("bucket")


def log_to_mlflow(where: str) -> str:
    """Log a run with a model to a tracking server or into a directory, read both back, and use the model."""
    import mlflow
    import mlflow.pyfunc

    class Double(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # it is untyped where it is missing
        def predict(self, context: object, model_input: list[int], params: object = None) -> list[int]:
            return [2 * number for number in model_input]

    mlflow.set_tracking_uri(where)
    mlflow.set_experiment("ttbar")
    with mlflow.start_run() as run:
        mlflow.log_param("b_tag", 0.5)
        mlflow.log_metric("signal", 12.5)
        mlflow.log_text("4j2b", "region.txt")
        model = mlflow.pyfunc.log_model(name="double", python_model=Double(), pip_requirements=[])
    data = mlflow.get_run(run.info.run_id).data
    text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/region.txt")
    return f"{data.params} {data.metrics} {text} {mlflow.pyfunc.load_model(model.model_uri).predict([1, 2])}"


def ask_servicex(name: str, port: int) -> object:
    """Ask the ServiceX server ``name`` of a ``servicex.yaml`` for its data sets."""
    from servicex.servicex_client import ServiceXClient

    path = HOME / "servicex.yaml"
    path.write_text(f"api_endpoints:\n  - {{name: here, endpoint: 'http://127.0.0.1:{port}'}}\n")
    return ServiceXClient(backend=name, config_path=str(path)).get_datasets()


def triton_request() -> str:
    """Return the head of a request for an inference."""
    import numpy
    import tritonclient.http

    tensor = tritonclient.http.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(numpy.ones((1, 2), numpy.float32))
    body, head = tritonclient.http.InferenceServerClient.generate_request_body([tensor])
    return f"{json.loads(body[:head])['inputs'][0]['shape']} {len(body) - head} bytes"


def ask_triton(module: str, port: int) -> object:
    """Ask a Triton server whether it lives."""
    triton = importlib.import_module(f"tritonclient.{module}")
    return triton.InferenceServerClient(f"127.0.0.1:{port}").is_server_live()


def rucio(*arguments: str, port: int = 0) -> str:
    """Run ``rucio``, with a configuration in ``RUCIO_HOME`` where a port is given; return all it says."""
    home = HOME / f"rucio-{port}"
    if port:
        (home / "etc").mkdir(parents=True, exist_ok=True)
        url = f"http://127.0.0.1:{port}"
        client = f"rucio_host = {url}\nauth_host = {url}\nauth_type = userpass\nusername = me\npassword = x\n"
        (home / "etc" / "rucio.cfg").write_text(f"[client]\naccount = me\n{client}")
    environment = {**os.environ, "RUCIO_HOME": str(home)}
    done = subprocess.run(
        ["rucio", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return f"{done.returncode} {done.stdout}{done.stderr}"


def outcome(check: Callable[[], object]) -> object:
    """Return what a check gives, or its error in one line."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001  # whatever it is
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def main(port: int, s3: str) -> None:
    """Run all checks."""
    warnings.simplefilter("ignore")
    HOME.mkdir(exist_ok=True)
    os.environ.update(HOME=str(HOME), MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_ALLOW_FILE_STORE="true")
    closed = f"http://127.0.0.1:{port}"
    checks: dict[str, Callable[[], object]] = {
        "imports": import_everything,
        "s3": lambda: read_from_s3(s3),
        "s3, nobody there": lambda: list_with_s3(closed),
        "mlflow, directory": lambda: log_to_mlflow(f"file:{HOME}/runs"),
        "mlflow, nobody there": lambda: log_to_mlflow(closed),
        "servicex, unknown": lambda: ask_servicex("elsewhere", port),
        "servicex, nobody there": lambda: ask_servicex("here", port),
        "triton, request": triton_request,
        "triton over http, nobody there": lambda: ask_triton("http", port),
        "triton over grpc, nobody there": lambda: ask_triton("grpc", port),
        "rucio, version": lambda: rucio("--version"),
        "rucio, no configuration": lambda: rucio("ping"),
        "rucio, nobody there": lambda: rucio("ping", port=port),
    }
    sys.stdout.write(json.dumps({name: outcome(check) for name, check in checks.items()}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
