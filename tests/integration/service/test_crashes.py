"""Every process of a facility is killed in the middle of its work, and everybody finds what they had."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from playwright.sync_api import expect

from builder.container.engine import docker
from builder.container.step import BUILD_LABEL
from tests.integration.service.test_page import build_page, opened
from tests.testbed.facility import fresh, running_facility
from tests.testbed.launching import engine_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from playwright.sync_api import Browser

    from tests.testbed.facility import RunningFacility

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

LINES = 40
COUNTING = f"#!/bin/sh\nfor i in $(seq {LINES}); do echo counted $i; sleep 0.2; done\n"
PATIENCE = 120.0


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    """A facility of which everything may be killed."""
    with running_facility(tmp_path_factory.mktemp("crashing")) as facility:
        yield facility


def wait_until(happened: Callable[[], object], what: str, facility: RunningFacility) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not come: {facility.log()}"
        time.sleep(0.1)


def begin(facility: RunningFacility, url: str) -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
    """Ask for a build and return the job with its events up to the first lines that the build's own script wrote."""
    job = facility.submit(url)
    seen = []
    for number, event in facility.events(job["events"]):
        seen.append((number, event))
        if counted([(number, event)]) == [3]:
            return job, seen
    raise AssertionError(f"the build ended: {seen[-1]}")


def answers(facility: RunningFacility) -> bool:
    """Whether the service is well."""
    try:
        return facility.client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def resume(facility: RunningFacility, job: Mapping[str, Any], seen: list[tuple[int, dict[str, Any]]]) -> None:
    """Watch a job from the last event that was seen, as a browser does, to its end; nothing is lost or comes twice."""
    wait_until(lambda: answers(facility), "the service", facility)
    seen.extend(facility.events(str(job["events"]), after=seen[-1][0]))
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))


def counted(seen: list[tuple[int, dict[str, Any]]]) -> list[int]:
    """Return the numbers that the build's own script wrote."""
    return [int(number) for _, event in seen for number in re.findall(r"counted (\d+)$", event.get("message", ""))]


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # some end with those before them
            os.kill(pid, signal.SIGKILL)


def assert_nothing_is_left(facility: RunningFacility, job: Mapping[str, Any]) -> None:
    """No builder, no container of one, no directory of a build."""
    wait_until(lambda: not facility.build_pids(), "the builders' end", facility)
    assert docker("ps", "--all", "--quiet", "--filter", f"label={BUILD_LABEL}={job['id']}").split() == []
    builds = facility.cache / "service" / "builds"
    wait_until(lambda: not [path for path in builds.iterdir() if path.is_dir()], "clean directories", facility)


def test_a_build_goes_on_when_the_service_is_killed(
    facility: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str]
) -> None:
    job, seen = begin(facility, add_repository("survivor", {"postBuild": COUNTING, **fresh()}))
    before = facility.service_pid()
    builders = facility.build_pids()
    os.kill(before, signal.SIGKILL)
    resume(facility, job, seen)
    assert facility.service_pid() != before
    assert builders
    ended = facility.job(job["id"])
    assert (ended["state"], ended["attempt"]) == ("built", 1)
    assert counted(seen) == list(range(1, LINES + 1))
    assert_nothing_is_left(facility, job)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium: run scripts/bootstrap")
def test_an_open_page_goes_on_by_itself_when_the_service_was_killed(
    facility: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str], chromium: Browser
) -> None:
    with opened(chromium) as (page, complaints):
        page.clock.install()
        url = add_repository("watched", {"postBuild": f"{COUNTING}sleep 600\n", **fresh()})
        page.goto(build_page(facility, url))
        log = page.get_by_role("region", name="Lines of the log")
        expect(log).to_contain_text("counted 3", timeout=PATIENCE * 1000)
        before = facility.service_pid()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: before not in facility.pids("launcher.service"), "the service's end", facility)
        wait_until(lambda: answers(facility), "the service", facility)
        page.clock.fast_forward(61_000)  # the proxy has told the page nothing, and it thinks that a minute is over
        expect(log).to_contain_text(f"counted {LINES}", timeout=PATIENCE * 1000)
        lines = log.locator("span").all_text_contents()
        assert [line for line in lines if "counted" in line] == [f"postBuild: counted {n}" for n in range(1, LINES + 1)]
        page.get_by_role("button", name="Cancel the build").click()
        expect(page.locator("#state-text")).to_have_text("This build was cancelled", timeout=PATIENCE * 1000)
        assert complaints == []


def test_a_service_that_is_asked_to_end_lets_its_streams_go_and_ends_well(
    facility: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str]
) -> None:
    job = facility.submit(add_repository("patient", {"postBuild": COUNTING, **fresh()}))
    before, seen = facility.service_pid(), []
    with suppress(httpx.RemoteProtocolError):  # the connection ends and the stream does not: a browser comes back
        for number, event in facility.events(job["events"]):
            seen.append((number, event))
            if counted([(number, event)]) == [3]:
                os.kill(before, signal.SIGTERM)
    assert max(counted(seen)) < LINES, "the stream was to end with the service, not with the build"
    wait_until(lambda: before not in facility.pids("launcher.service"), "the service's end", facility)
    resume(facility, job, seen)
    ended = facility.job(job["id"])
    assert (ended["state"], ended["attempt"]) == ("built", 1)
    assert counted(seen) == list(range(1, LINES + 1))
    assert "Service launch exited with status 0" in facility.log()
    assert_nothing_is_left(facility, job)


def test_a_build_whose_builder_is_killed_has_failed_and_says_so(
    facility: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str]
) -> None:
    job, seen = begin(facility, add_repository("fallen", {"postBuild": COUNTING, **fresh()}))
    kill(*facility.build_pids())
    resume(facility, job, seen)
    ended = facility.job(job["id"])
    assert (ended["state"], ended["attempt"]) == ("failed", 1)
    assert ended["message"] == "the builder was killed (signal 9); it may have run out of memory"
    assert_nothing_is_left(facility, job)


def test_a_builder_that_is_lost_with_the_service_is_started_again_once(
    facility: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str]
) -> None:
    url = add_repository("both", {"postBuild": COUNTING, **fresh()})
    job, seen = begin(facility, url)
    kill(facility.service_pid(), *facility.build_pids())
    resume(facility, job, seen)
    ended = facility.job(job["id"])
    assert (ended["state"], ended["attempt"]) == ("built", 2)
    assert [event["state"] for _, event in seen if event["kind"] == "state"][-3:] == ["queued", "running", "built"]
    assert facility.submit(url)["id"] == job["id"], "it is the same build, and is not built again"
    assert_nothing_is_left(facility, job)


def test_servers_outlive_the_hub_and_the_command(
    facility: RunningFacility, add_repository: Callable[[str, Mapping[str, bytes | str]], str]
) -> None:
    built = facility.build(add_repository("lasting", {"a.txt": "1\n"}))
    ready = facility.launch(built["id"], workers=0)
    container = facility.containers()
    assert len(container) == 1

    os.kill(facility.hub_pid(), signal.SIGKILL)
    assert facility.process.wait(60) == 1
    assert "JupyterHub ended by itself (status -9), so the facility ends" in facility.said()
    assert "1 notebook server(s) go on" in facility.said()
    assert_ended(facility)

    facility.start()
    assert_there(facility, ready)

    facility.process.kill()
    facility.process.wait()
    wait_until(lambda: not running(facility), "the end of all parts", facility)

    facility.start()
    assert_there(facility, ready)
    assert facility.containers() == container
    answer = facility.client.delete(f"/api/servers/{ready['launch']}")
    assert answer.status_code in (200, 202, 204), answer.text
    wait_until(lambda: not facility.containers(), "the server's end", facility)


def running(facility: RunningFacility) -> list[int]:
    words = ("launcher.hub", "launcher.service", "configurable-http-proxy")
    return [pid for word in words for pid in facility.pids(word) if psutil.pid_exists(pid)]


def assert_ended(facility: RunningFacility) -> None:
    wait_until(lambda: not running(facility), "the end of all parts", facility)


def assert_there(facility: RunningFacility, ready: Mapping[str, Any]) -> None:
    """The visitor's list has the server, it runs, and lets in whoever has its token."""
    servers = facility.client.get("/api/servers").raise_for_status().json()
    listed = servers["servers"] if isinstance(servers, dict) else servers
    assert [(server["id"], server["state"]) for server in listed] == [(ready["launch"], "ready")]
    headers = {"Authorization": f"token {ready['token']}"}
    answer = httpx.get(f"{ready['url']}api/status", headers=headers, trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
