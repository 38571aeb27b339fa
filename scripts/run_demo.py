"""The part of scripts/demo that needs Python: build the example, launch it, run its notebook, check what came out.

Everything that was made before is found again: the repository has the same commit, the image the same digest, the files
of events are there, and the notebook server runs already.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from base_images.assemble import build_base
from builder.build import build
from builder.container.engine import docker_bytes
from builder.repository.spec import RepoSpec
from launcher.container import HOST, LaunchOptions
from launcher.context import open_context
from launcher.docker import launch, pull, servers, stop
from launcher.notebook_client import NotebookClient, NotebookError
from launcher.progress import choose_reporter
from launcher.readiness import wait_until_ready
from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically

if TYPE_CHECKING:
    from builder.record import ImageRecord
    from launcher.context import Context
    from launcher.servers import Server

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "agc-ttbar"
NOTEBOOK = "ttbar.ipynb"
STORE = "agc-ttbar"  # below the directory that XRootD serves as /store
WORKER_SECONDS = 60.0
EVENTS = 3 * 2 * 20_000
# A commit is a hash of these too: the same example is the same commit on every machine.
COMMIT = {
    "GIT_AUTHOR_NAME": "casabinder",
    "GIT_AUTHOR_EMAIL": "demo@casabinder.invalid",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "casabinder",
    "GIT_COMMITTER_EMAIL": "demo@casabinder.invalid",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


@dataclass(frozen=True)
class Options:
    """The command line, parsed."""

    workers: int
    data: Path
    port: int

    @classmethod
    def parse(cls) -> Options:
        """Read the command line."""
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--workers", type=int, required=True)
        parser.add_argument("--data", type=Path, required=True, help="the directory that XRootD serves as /store")
        parser.add_argument("--port", type=int, required=True, help="of the XRootD server")
        return cls(**vars(parser.parse_args()))


class Diary:
    """Tells what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"demo {time.monotonic() - self._start:6.1f} s  {text}", flush=True)


def make_repository(target: Path) -> str:
    """Make the example a git repository at ``target``, unless it is there as it is now; return its commit."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch, target.name)
        shutil.copytree(EXAMPLE, fresh, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.png", "metrics.json"))
        _git(fresh, "init", "--quiet", "--template=", "--initial-branch=main")
        _git(fresh, "add", "--all")
        _git(fresh, "commit", "--quiet", "--message=The ttbar analysis of the Analysis Grand Challenge, in miniature")
        commit = _git(fresh, "rev-parse", "HEAD")
        if not target.exists() or _git(target, "rev-parse", "HEAD") != commit:
            shutil.rmtree(target, ignore_errors=True)
            fresh.rename(target)
    return commit


def build_image(context: Context, repository: Path, diary: Diary) -> ImageRecord:
    """Make the base image and the repository's image, unless the registry has them."""
    facility = context.facility
    base = build_base(
        context.definition(context.site.base),
        context.workshop,
        facility.store,
        facility.registry,
        facility.prefix,
        say=diary.say,
    )
    diary.say(f"base image {base.reference}{': in the registry already' if base.cached else ''}")
    record = build(
        RepoSpec(str(repository)),
        context.bases(),
        facility,
        choose_reporter(json_logs=False, quiet=not sys.stderr.isatty()),
    )
    diary.say(f"image {record.image}: {record.bytes['new'] / 1e3:.0f} kB above the base")
    return record


def make_data(record: ImageRecord, repository: Path, target: Path, diary: Diary) -> None:
    """Write the files of events with the example's own program, in its own image, unless this program wrote them."""
    recipe = (repository / "make_data.py").read_bytes()
    stamp = target / "make_data.py"
    if stamp.exists() and stamp.read_bytes() == recipe:
        return
    diary.say("making synthetic events, in the image itself")
    command = "python make_data.py /tmp/data >&2 && exec tar --directory /tmp/data --create ."
    files = docker_bytes("run", "--rm", "--network", "none", pull(record, diary.say), "sh", "-c", command)
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                write_atomically(target / Path(member.name).name, content.read())
    for directory in (target.parent, target):  # XRootD runs as another user
        directory.chmod(0o755)
    write_atomically(stamp, recipe)
    diary.say(f"{sum(path.stat().st_size for path in target.glob('*.root')) / 1e6:.0f} MB of events in {target}")


def launch_example(context: Context, record: ImageRecord, options: Options, diary: Diary) -> Server:
    """Launch the image; servers of an earlier state of the example are ended."""
    limits = context.site.limits
    asked = LaunchOptions(
        workers=options.workers,
        maximum=limits.workers,
        cpus=limits.cpus,
        memory=limits.memory,
        environment={"AGC_DATA": f"root://{HOST}:{options.port}//store/{STORE}"},
    )
    cache = context.facility.cache
    server = launch(record, asked, cache, diary.say)
    earlier = [one.name for one in servers(cache) if one.repo == server.repo and one.name != server.name]
    if earlier:
        stop(cache, earlier)
        diary.say(f"ended {', '.join(earlier)}")
    wait_until_ready(
        server.url, server.token, lambda: None, with_workers=True, workers=options.workers, seconds=WORKER_SECONDS
    )
    return server


def run_notebook(server: Server, target: Path, diary: Diary) -> dict[str, Any]:
    """Run the notebook in the server, keep it and its plot in ``target``, and return its metrics."""
    diary.say(f"running {NOTEBOOK} in {server.name}")
    with NotebookClient(server.url, server.token) as client:
        notebook = client.run(NOTEBOOK, environment={"AGC_COMPARE": "1"})
        write_atomically(target / NOTEBOOK, json.dumps(notebook, indent=1).encode())
        write_atomically(target / "ttbar.png", client.fetch_file("ttbar.png"))
        metrics = client.fetch_file("metrics.json")
    write_atomically(target / "metrics.json", metrics)
    summary: dict[str, Any] = json.loads(metrics)
    return summary


def check(metrics: dict[str, Any], record: ImageRecord, options: Options) -> None:
    """Raise :class:`CasabinderError` unless the metrics are what they have to be."""
    expected = {
        "equal_to_one_process": True,
        "events": EVENTS,
        "env_id": record.env_id,
        "worker_env_ids": [record.env_id],
        "workers": options.workers,
    }
    wrong = [f"{name} is {metrics[name]}, not {value}" for name, value in expected.items() if metrics[name] != value]
    if wrong:
        raise CasabinderError(f"the analysis ran, but {'; '.join(wrong)}")


def run(options: Options) -> None:
    """Run the demo."""
    diary = Diary()
    context = open_context()
    place = context.facility.cache / "demo"
    repository = place / EXAMPLE.name
    commit = make_repository(repository)
    diary.say(f"the example is {repository} at commit {commit[:12]}")
    record = build_image(context, repository, diary)
    make_data(record, repository, options.data / STORE, diary)
    server = launch_example(context, record, options, diary)
    metrics = run_notebook(server, place, diary)
    check(metrics, record, options)
    diary.say("done")
    print(f"""
The histograms of {metrics["workers"]} Dask workers equal those of one process; all ran in environment {record.env_id}.

  plot        {place / "ttbar.png"}
  notebook    {place / NOTEBOOK}
  rate        {metrics["events_per_second"]} events/s ({metrics["events"]} events in {metrics["seconds"]} s)
  JupyterLab  {server.address}
""")


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    done = subprocess.run(command, env={**os.environ, **COMMIT}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CasabinderError(f"git {arguments[0]} failed in {directory}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def main() -> int:
    """Run the demo and return the exit status."""
    try:
        run(Options.parse())
    except NotebookError as error:
        print(f"demo: {error}\n{error.traceback}", file=sys.stderr)
        return 1
    except CasabinderError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
