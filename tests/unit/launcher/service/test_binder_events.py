"""BinderHub's words for what happens to jobs and launches. After a change of the words, write the stream anew with::

CASABINDER_UPDATE_GOLDEN=1 python -m pytest tests/unit/launcher/service/test_binder_events.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.events import Event
from launcher.hub.launch import LaunchEvent, Origin
from launcher.jobs.model import Asked, BuildRequest, Job, JobEvent
from launcher.service import binder_events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GOLDEN = Path(__file__).parent / "golden" / "build.eventsource"
IMAGE = "registry.test/fac/ana-1a2b3c:0123456789abcdef"
COMMIT = "1" * 40
VOCABULARY = {"waiting", "fetching", "building", "pushing", "built", "launching", "ready", "failed"}
JOB = Job(
    id="job",
    key="key",
    state="built",
    request=BuildRequest(Asked("gh", "lab/ana/main"), "https://github.com/lab/ana", "main", COMMIT),
    owner="visitor:1",
    created=0.0,
    image=IMAGE,
)
ORIGIN = Origin(
    launch_host="https://hub.test/",
    request="v2/gh/lab/ana/main",
    persistent_request=f"v2/gh/lab/ana/{COMMIT}",
    client_ip="192.0.2.1",
    ref_url=f"https://github.com/lab/ana/tree/{COMMIT}",
)
REPORTED = [
    Event("start", "resolve", "Resolving main"),
    Event("end", "resolve", f"main is {COMMIT[:12]}", seconds=0.21),
    Event("start", "fetch", "Fetching the commit"),
    Event("progress", "fetch", done=1000),
    Event("end", "fetch", "12 files", done=2000, seconds=0.5),
    Event("message", "lock", "requirements.txt asks for hist"),
    Event("start", "layers", "Making layers"),
    Event("end", "layers", "2 layers made", seconds=1.25),
    Event("start", "push", "Uploading"),
    Event("progress", "push", done=5_000_000, total=12_000_000),
    Event("end", "push", "12.0 MB uploaded", done=12_000_000, seconds=0.8),
]
LAUNCHED = [
    LaunchEvent("message", "Server requested"),
    LaunchEvent("message", "Spawning server...", 50),
    LaunchEvent("ready", "", 100, url="https://hub.test/user/lab-ana-1/", token="5ec7e7"),
]


def number(data: Sequence[Mapping[str, Any]]) -> list[JobEvent]:
    return [JobEvent(count, 0.0, entry) for count, entry in enumerate(data, start=1)]


def messages() -> Iterator[dict[str, Any]]:
    queued = {"kind": "state", "state": "queued", "position": 3}
    built = {"kind": "state", "state": "built", "image": IMAGE}
    running = {"kind": "state", "state": "running"}
    events: list[Mapping[str, Any]] = [queued, running, *(event.to_json() for event in REPORTED), built]
    for event in number(events):
        message = binder_events.of_job(event)
        if message:
            yield message
    yield binder_events.launching()
    for launched in LAUNCHED:
        yield binder_events.of_launch(launched, JOB, ORIGIN)


def test_a_build_and_its_launch_are_told_as_binderhub_does() -> None:
    stream = "".join(binder_events.encode(message) for message in messages())
    if os.environ.get("CASABINDER_UPDATE_GOLDEN"):
        GOLDEN.write_text(stream, encoding="utf-8")
    assert stream == GOLDEN.read_text(encoding="utf-8")


def test_every_message_of_the_recorded_shape() -> None:
    lines = GOLDEN.read_text(encoding="utf-8").split("\n\n")
    assert lines.pop() == ""
    documents = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    assert {document["phase"] for document in documents} == VOCABULARY - {"failed"}
    assert all(document["message"].endswith("\n") for document in documents)
    # The fields that the clients document, and that BinderHub's recorded stream ends with.
    assert set(documents[-1]) >= {
        *("phase", "message", "image", "repo_url", "token", "url", "binder_ref_url"),
        *("binder_launch_host", "binder_request", "binder_persistent_request"),
    }


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"state": "failed", "message": "no"}, {"phase": "failed", "message": "no\n"}),
        ({"state": "failed"}, {"phase": "failed", "message": "the build failed\n"}),
        ({"state": "cancelled"}, {"phase": "failed", "message": "the build was cancelled\n"}),
        ({"state": "queued"}, {"phase": "waiting", "message": "Waiting for build to start...\n"}),
    ],
)
def test_states(data: dict[str, str], expected: dict[str, str]) -> None:
    [event] = number([{"kind": "state", **data}])
    assert binder_events.of_job(event) == expected


def test_without_a_launch_a_built_image_is_the_end() -> None:
    [event] = number([{"kind": "state", "state": "built", "image": IMAGE}])
    ready = {"phase": "ready", "imageName": IMAGE, "message": "Done! Image built\n"}
    assert binder_events.of_job(event, build_only=True) == ready
    found = binder_events.of_found(JOB, build_only=True)
    assert found == {**ready, "message": "Done! Found built image\n"}
    assert binder_events.of_found(JOB)["message"] == "Found built image, launching...\n"


def test_a_failed_launch_says_why() -> None:
    event = LaunchEvent("failed", "the server ended at once: no space left", status=503)
    said = binder_events.of_launch(event, JOB, ORIGIN)
    assert said == {
        "phase": "failed",
        "status_code": 503,
        "message": "the server ended at once: no space left\n",
    }


@given(
    kind=st.sampled_from(["start", "progress", "end", "message"]),
    phase=st.sampled_from(["resolve", "fetch", "lock", "download", "layers", "push"]),
    text=st.text(max_size=80),
    done=st.integers(0, 10**12),
    total=st.integers(0, 10**12),
)
def test_whatever_a_builder_says_is_one_line_in_the_vocabulary(
    kind: Any, phase: Any, text: str, done: int, total: int
) -> None:
    [event] = number([Event(kind, phase, text, done, total, 1.0).to_json()])
    message = binder_events.of_job(event)
    if message is None:
        return
    assert message["phase"] in VOCABULARY
    encoded = binder_events.encode(message)
    assert encoded.count("\n") == 2
    assert encoded.endswith("\n\n")
