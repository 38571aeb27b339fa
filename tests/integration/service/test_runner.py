"""The runner with real builders: a real store, registry, git server and container engine; everything may be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from builder.container.engine import EngineError, docker
from builder.container.step import BUILD_LABEL
from launcher.database import open_database
from launcher.jobs.model import Asked, BuildRequest
from launcher.jobs.process_executor import ProcessExecutor
from launcher.jobs.runner import Runner
from launcher.jobs.store import JobStore
from launcher.security.keys import Keys
from launcher.security.vault import Vault
from launcher.site_config import Site, load_site
from registry_sync.client import RegistryClient
from tests.testbed.git_repository import commit_files
from tests.testbed.git_server import GitServer, running_git_server
from tests.testbed.launching import engine_answers
from tests.testbed.packages import built_wheel, running_index
from tests.testbed.registry import registry_is_installed, running_registry
from tests.testbed.shell import shell_entries
from tests.testbed.tiny_base import tiny_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from launcher.jobs.model import Job, JobEvent

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0
TOKEN = "a-token-that-nobody-may-see"
BASE = "fac/bases/tiny"
IN_BASE = built_wheel("core")
NOTHING = {"data.txt": "1\n"}
COUNTING = "#!/bin/sh\ni=0\nwhile [ ! -e /tmp/enough ]; do echo line $i; i=$((i+1)); sleep 0.02; done\n"
SLEEPING = "#!/bin/sh\necho asleep\nexec sleep 600\n"


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
]
with_engine = pytest.mark.skipif(not engine_answers(), reason="needs a container engine")


@dataclass
class Place:
    """What all tests share: a registry with a small base, a package index, a git server that wants a login."""

    registry: str
    index: str
    public: GitServer
    private: GitServer


@dataclass
class House:
    """A site with a store of its own, in which jobs are asked for and runners run."""

    place: Place
    directory: Path
    site: Site
    store: JobStore
    vault: Vault
    environment: Mapping[str, str]
    _repositories: int = field(default=0)

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    def executor(self, environment: Mapping[str, str] | None = None) -> ProcessExecutor:
        lines = self.site.service.builds.log_lines
        return ProcessExecutor(self.cache, self.vault.reveal, lines, environment or self.environment)

    @contextmanager
    def runner(self) -> Iterator[Runner]:
        """Run a runner in this process."""
        runner = Runner(self.store, self.executor(), self.site)
        runner.start()
        try:
            yield runner
        finally:
            runner.stop()

    def runner_process(self) -> subprocess.Popen[bytes]:
        """Run a runner in a process of its own."""
        command = [sys.executable, "-m", "tests.testbed.runner_process"]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment)

    def ask(self, files: Mapping[str, str], *, server: GitServer | None = None, credential: str = "") -> Job:
        """Serve a new repository of ``files`` and ask for its build."""
        server = server or self.place.public
        name = f"{self.directory.name}/{self._repositories}"
        self._repositories += 1
        work = self.directory / "work" / name
        commit = commit_files(work, {**files, "name.txt": name})  # no other repository's layers are found
        server.add(name, work)
        asked = Asked("git", name, base=f"{self.place.registry}/{BASE}:current")
        request = BuildRequest(asked, server.url(name), "main", commit, credential)
        return self.store.submit(name, request, "user:tester", now=time.time())[0]

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def events(self, job_id: str) -> list[JobEvent]:
        """Return all events, which have no gaps in their numbers."""
        found: list[JobEvent] = []
        while page := self.store.events(job_id, len(found)):
            found += page
        assert [event.number for event in found] == list(range(1, len(found) + 1))
        return found

    def messages(self, job_id: str) -> list[str]:
        return [event.data.get("message", "") for event in self.events(job_id) if event.data["kind"] == "message"]

    def states(self, job_id: str) -> list[str]:
        return [event.data["state"] for event in self.events(job_id) if event.data["kind"] == "state"]

    def until_ended(self, job_id: str) -> Job:
        wait(lambda: self.job(job_id).ended, lambda: f"{self.job(job_id)} {self.messages(job_id)[-5:]}")
        return self.job(job_id)

    def until_said(self, job_id: str, text: str) -> None:
        wait(lambda: any(text in line for line in self.messages(job_id)), lambda: str(self.events(job_id)[-5:]))

    def end_counting(self, job_id: str) -> None:
        """Let the step ``COUNTING`` come to its end."""
        running = ("ps", "--quiet", "--filter", f"label={BUILD_LABEL}={job_id}")
        wait(lambda: bool(docker(*running)), lambda: str(self.events(job_id)[-5:]))
        # Who waits for the command's status may see the container's end instead.
        docker("exec", "--detach", docker(*running).strip(), "sh", "-c", ": > /tmp/enough")

    def builder(self, job_id: str) -> psutil.Process:
        """Return the builder's process."""
        found: list[psutil.Process] = []

        def look() -> bool:
            found.extend(builders(job_id))
            return bool(found)

        wait(look, lambda: f"no builder of {job_id}")
        return found[0]

    def is_tidy(self, *job_ids: str) -> None:
        """Nothing is left of builds that have ended: no directory, process, container, or half of a file."""
        builds = self.cache / "service" / "builds"
        wait(lambda: [path.name for path in builds.iterdir()] == ["runner"], lambda: str(list(builds.iterdir())))
        for job_id in job_ids:
            assert builders(job_id) == []
            assert made_in_engine(job_id) == ""

    def half_files(self) -> list[Path]:
        names = ("*.part", "*.partial", ".partial-*", ".made-*", ".saved-*", "incoming-*", "tmp_*", "index-*")
        return [path for name in names for path in self.cache.rglob(name) if "service" not in path.parts]


def wait(reached: Callable[[], bool], said: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, said()
        time.sleep(0.02)


def builders(job_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if "launcher.jobs.build_process" in command and job_id in command[-1]:
                found.append(process)
    return found


def made_in_engine(job_id: str) -> str:
    labelled = f"label={BUILD_LABEL}={job_id}"
    try:
        containers = docker("ps", "--all", "--quiet", "--filter", labelled)
        return containers + docker("images", "--quiet", "--filter", labelled)
    except EngineError:
        return ""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("place")
    with (
        running_registry(directory / "registry") as registry,
        running_index([IN_BASE, built_wheel("one"), built_wheel("two")]) as index,
        running_git_server(directory / "public") as public,
        running_git_server(directory / "private", ("me", TOKEN)) as private,
    ):
        with RegistryClient(registry.address, credentials=None) as store:
            shell = shell_entries("sleep", "chmod")
            tiny_base(store, [IN_BASE], directory / "base", repository=BASE, index_url=index.url, root=shell)
        yield Place(registry.address, index.url, public, private)


@pytest.fixture
def make_house(place: Place, tmp_path: Path) -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def make(**builds: Any) -> House:
        file = tmp_path / "site.yaml"
        document = {
            "registry": f"{place.registry}/fac",
            "package_index": place.index,
            "repositories": {"private_addresses": True},
            "service": {"builds": builds},
        }
        file.write_text(json.dumps(document))
        site = load_site(file)
        cache = tmp_path / "cache"
        engine = open_database(site.service, cache)
        environment = {**os.environ, "CASABINDER_SITE": str(file), "CASABINDER_CACHE": str(cache)}
        vault = Vault(engine, Keys.load(cache / "service" / "secret"))
        houses.append(House(place, tmp_path, site, JobStore(engine), vault, environment))
        return houses[-1]

    yield make
    for house in houses:
        for job in house.store.running():
            house.executor().kill(job.id)


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house()


def test_a_job_is_built_and_leaves_nothing_but_its_record(house: House) -> None:
    job = house.ask({"requirements.txt": "one\ntwo\n"})
    with house.runner():
        built = house.until_ended(job.id)
        house.is_tidy(job.id)
    record = house.store.record(job.id)
    assert (built.message, built.state) == ("", "built")
    assert record is not None
    assert (record["commit"], record["ref"], record["repo"]) == (
        job.request.commit,
        "main",
        job.request.repo,
    )
    assert (built.image, built.digest, built.env_id) == (record["image"], record["digest"], record["env_id"])
    assert house.states(job.id) == ["queued", "running", "built"]
    phases = [event.data["phase"] for event in house.events(job.id) if event.data["kind"] == "end"]
    assert (phases[0], phases[-1]) == ("resolve", "push")
    assert house.half_files() == []


def test_just_the_commit_of_the_job_is_built(house: House) -> None:
    job = house.ask({"data.txt": "old\n"})
    work = house.directory / "work" / house.directory.name / "0"
    newer = commit_files(work, {"data.txt": "new\n"})
    house.place.public.add(f"{house.directory.name}/0", work)
    with house.runner():
        house.until_ended(job.id)
    record = house.store.record(job.id)
    assert record is not None
    assert record["commit"] == job.request.commit != newer


def test_a_failure_is_one_sentence(house: House) -> None:
    wrong = house.ask({"requirements.txt": "no-such-package\n"})
    local = house.store.submit(
        "local",
        BuildRequest(Asked("git", "x", base=f"{house.place.registry}/{BASE}:current"), str(ROOT), "main", "0" * 40),
        "user:tester",
        now=time.time(),
    )[0]
    with house.runner():
        failed = [house.until_ended(job.id) for job in (wrong, local)]
        house.is_tidy(wrong.id, local.id)
    assert [job.state for job in failed] == ["failed", "failed"]
    assert "no-such-package" in failed[0].message
    assert "\n" not in failed[0].message
    assert "is a directory of this machine" in failed[1].message


def test_an_error_of_the_builder_is_told_to_the_administrator_alone(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    job = house.ask(NOTHING)
    (house.cache / "git").write_text("not a directory")
    with house.runner():
        failed = house.until_ended(job.id)
        house.is_tidy(job.id)
    assert failed.message == (
        f"the builder met an error of its own (FileExistsError); the administrators' log has it under job {job.id}"
    )
    assert "Traceback" in caplog.text
    assert "Traceback" not in str([event.data for event in house.events(job.id)])


def test_a_token_is_a_file_that_goes_with_the_build(house: House) -> None:
    host = house.place.private.address
    credential = house.vault.put("user:tester", host, f"me:{TOKEN}", time.time())
    house.environment = {**house.environment, "JUPYTERHUB_API_TOKEN": "hub-secret"}
    job = house.ask(NOTHING, server=house.place.private, credential=credential)
    gone = house.ask(NOTHING, server=house.place.private, credential="no-such-credential")
    seen = []
    with house.runner():
        with suppress(psutil.Error):
            process = house.builder(job.id)
            seen.append(str(process.environ()) + str(process.cmdline()))
        assert house.until_ended(job.id).state == "built"
        assert house.until_ended(gone.id).state == "failed"
        house.is_tidy(job.id)
    assert not [text for text in seen if TOKEN in text or "hub-secret" in text]
    kept = [path for path in house.cache.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert kept == []


def test_a_queued_job_is_cancelled_at_once(make_house: Callable[..., House]) -> None:
    house = make_house(concurrent=1)
    job = house.ask(NOTHING)
    house.store.cancel(job.id, time.time())
    with house.runner():
        other = house.ask(NOTHING)
        assert house.until_ended(other.id).state == "built"
    assert house.states(job.id) == ["queued", "cancelled"]


@with_engine
def test_a_running_job_is_cancelled_with_its_container(house: House) -> None:
    job = house.ask({"postBuild": SLEEPING})
    with house.runner() as runner:
        house.until_said(job.id, "asleep")
        assert made_in_engine(job.id)
        house.store.cancel(job.id, time.time())
        runner.wake()
        cancelled = house.until_ended(job.id)
        house.is_tidy(job.id)
    assert (cancelled.state, cancelled.message) == ("cancelled", "")
    assert house.half_files() == []


@with_engine
def test_a_build_has_an_end_even_if_it_does_not_want_one(make_house: Callable[..., House]) -> None:
    house = make_house(seconds=4)
    job = house.ask({"postBuild": SLEEPING})
    with house.runner():
        failed = house.until_ended(job.id)
        house.is_tidy(job.id)
    assert failed.message == "the build took more than 4 s, which is as long as this facility allows"


@with_engine
@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_dockerfile_that_is_being_built_stops_with_the_build(house: House, how: str) -> None:
    command = f"sleep 1{time.time_ns()}"
    job = house.ask({"Dockerfile": f"FROM {house.place.registry}/{BASE}:current\nRUN exec {command}\n"})
    with house.runner() as runner:
        wait(lambda: command in docker("ps", "--no-trunc"), lambda: str(house.events(job.id)))
        if how == "cancel":
            house.store.cancel(job.id, time.time())
            runner.wake()
        else:
            house.builder(job.id).kill()
        house.until_ended(job.id)
        house.is_tidy(job.id)
    wait(lambda: command not in docker("ps", "--all", "--no-trunc"), lambda: docker("ps", "--all", "--no-trunc"))


@with_engine
def test_a_builder_that_is_killed_is_told_and_cleaned_up_after(house: House) -> None:
    job = house.ask({"postBuild": SLEEPING})
    with house.runner():
        house.until_said(job.id, "asleep")
        images = docker("images", "--quiet", house.place.registry + "/fac/*").split()
        house.builder(job.id).kill()
        failed = house.until_ended(job.id)
        house.is_tidy(job.id)
    assert failed.state == "failed"
    assert failed.message == "the builder was killed (signal 9); it may have run out of memory"
    assert len(docker("images", "--quiet", house.place.registry + "/fac/*").split()) < len(images)
    again = house.ask({"postBuild": "#!/bin/sh\necho done\n"})
    with house.runner():
        assert house.until_ended(again.id).state == "built"


def test_a_builder_that_is_killed_anywhere_leaves_caches_whole(house: House) -> None:
    files = {"requirements.txt": "one\ntwo\n", "data.bin": "x" * 4_000_000}
    moments = [("fetch", 0.05), ("layers", 0.0), ("layers", 0.02), ("push", 0.0)]
    with house.runner():
        for number, (phase, seconds) in enumerate(moments):
            job = house.ask({**files, "number.txt": str(number)})
            wait(lambda job=job, phase=phase: phase in phases_of(house, job) or house.job(job.id).ended, lambda: "")  # type: ignore[misc]
            time.sleep(seconds)
            for process in builders(job.id):
                with suppress(psutil.NoSuchProcess):  # it may have been quicker
                    process.kill()
            house.until_ended(job.id)
            house.is_tidy(job.id)
        last = house.ask({**files, "number.txt": "last"})
        assert house.until_ended(last.id).state == "built"
    # what was half-written lies under another name, where nobody takes it for the whole
    assert not [path for path in (house.cache / "wheels").rglob("*.whl") if not zip_is_whole(path)]


def phases_of(house: House, job: Job) -> set[str]:
    return {event.data["phase"] for event in house.events(job.id) if event.data["kind"] == "start"}


def zip_is_whole(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


@with_engine
def test_a_runner_that_is_killed_is_followed_by_another_without_loss_or_repetition(house: House) -> None:
    job = house.ask({"postBuild": COUNTING})
    first = house.runner_process()
    try:
        house.until_said(job.id, "line 50")
        builder = house.builder(job.id)
    finally:
        first.kill()
        first.wait()
    assert builder.is_running()
    told = len(house.events(job.id))
    second = house.runner_process()
    try:
        wait(lambda: len(house.events(job.id)) > told + 50, lambda: str(house.events(job.id)[-5:]))
    finally:
        second.send_signal(signal.SIGTERM)  # in good order, and the build goes on all the same
        second.wait()
    assert builder.is_running()
    with house.runner():
        house.end_counting(job.id)
        built = house.until_ended(job.id)
        house.is_tidy(job.id)
    assert (built.state, built.attempt) == ("built", 1)
    assert house.states(job.id) == ["queued", "running", "built"]
    said = [line.rpartition(": ")[2] for line in house.messages(job.id) if "line " in line]
    assert said == [f"line {number}" for number in range(len(said))]
    starts = [event.data["phase"] for event in house.events(job.id) if event.data["kind"] == "start"]
    assert starts.count("fetch") == 1


@with_engine
def test_what_ended_while_nobody_looked_is_told_as_it_was(house: House) -> None:
    """Built, killed, or cancelled while there was no runner: three jobs, three honest states."""
    built = house.ask(NOTHING)
    lost = house.ask({"postBuild": COUNTING})
    runner = house.runner_process()
    try:
        house.until_said(lost.id, "line 3")
        house.until_ended(built.id)
        unclaimed = house.ask(NOTHING)
    finally:
        runner.kill()
        runner.wait()
    builder = house.builder(lost.id)
    builder.kill()
    psutil.wait_procs([builder])
    with house.runner():
        assert house.until_ended(unclaimed.id).state == "built"
        wait(lambda: house.job(lost.id).attempt == 2, lambda: str(house.job(lost.id)))
        house.end_counting(lost.id)
        again = house.until_ended(lost.id)
        house.is_tidy(lost.id)
    assert (again.state, again.attempt) == ("built", 2)
    assert house.states(lost.id) == ["queued", "running", "queued", "running", "built"]
    why = [event.data.get("message", "") for event in house.events(lost.id) if event.data["kind"] == "state"]
    assert why[2] == "the builder was lost when the service or its machine went down; building again"


@with_engine
def test_a_builder_that_is_lost_twice_is_not_started_again(house: House) -> None:
    job = house.ask({"postBuild": COUNTING})
    for attempt in (1, 2):
        runner = house.runner_process()
        try:
            wait(lambda attempt=attempt: house.job(job.id).attempt == attempt, lambda: str(house.job(job.id)))  # type: ignore[misc]
            builder = house.builder(job.id)
        finally:
            runner.kill()
            runner.wait()
        builder.kill()
        psutil.wait_procs([builder])
    with house.runner():
        failed = house.until_ended(job.id)
        house.is_tidy(job.id)
    assert failed.state == "failed"
    assert "lost twice" in failed.message


def test_jobs_of_a_runner_that_is_gone_are_built_by_another(house: House) -> None:
    job = house.ask(NOTHING)
    assert house.store.claim(job.id, "a-machine-that-burned", time.time() - 3600)
    with house.runner():
        built = house.until_ended(job.id)
    assert (built.state, built.attempt) == ("built", 2)


def test_only_one_runner_has_the_builds_of_a_cache(house: House) -> None:
    first, second = house.executor(), house.executor()
    assert first.own()
    assert not second.own()
    first.disown()
    assert second.own()
    assert second.name == first.name
    second.disown()


@with_engine
def test_a_log_without_end_is_cut(house: House) -> None:
    script = "#!/bin/sh\ni=0\nwhile [ $i -lt 25000 ]; do echo $i; i=$((i+1)); done\necho >&2 over\n"
    job = house.ask({"postBuild": script})
    with house.runner():
        built = house.until_ended(job.id)
    assert built.state == "built"
    messages = house.messages(job.id)
    most = house.site.service.builds.log_lines
    assert len(messages) == most + 1
    assert messages[-1] == f"the log ends here: it has more than the {most} lines that this facility keeps"
