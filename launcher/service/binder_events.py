"""BinderHub's messages, made of the events of jobs and launches.

::

    job     queued   waiting                      launch   message  launching
            running  fetching                              ready    ready
            resolve, fetch          fetching               failed   failed
            lock, download, layers  building
            push     pushing
            built    built, or ready when nothing is to be launched
            failed, cancelled       failed

Every message has ``phase`` and ``message``, which ends with a newline, since clients write it to a terminal. Nothing
here does I/O; the golden file of the tests is a stream in the shape that BinderHub's own clients were recorded with.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.hub.launch import LaunchEvent, Origin
    from launcher.jobs.model import Job, JobEvent

Message = dict[str, Any]

_PHASES = {
    "resolve": "fetching",
    "fetch": "fetching",
    "lock": "building",
    "download": "building",
    "layers": "building",
    "push": "pushing",
}
_PUSHED = "image"
"""Under which name progress of a push is told; BinderHub has one entry per layer there."""


def encode(message: Message) -> str:
    """Return a message as BinderHub writes it to the stream."""
    return f"data: {json.dumps(message)}\n\n"


def of_job(event: JobEvent, *, build_only: bool = False) -> Message | None:
    """Return what a job's event is in BinderHub's words, or ``None`` for what it has no words for."""
    data = event.data
    return _state(data, build_only=build_only) if data.get("kind") == "state" else _reported(data)


def of_found(job: Job, *, build_only: bool = False) -> Message:
    """Return what is said of an image that was there already."""
    return _built(job.image, found=True, build_only=build_only)


def of_launch(event: LaunchEvent, job: Job, origin: Origin) -> Message:
    """Return what an event of a launch of ``job``'s image is in BinderHub's words."""
    if event.kind == "message":
        return {"phase": "launching", "message": _line(event.message)}
    if event.kind == "failed":
        return failed(event.message, event.status or 500)
    return {
        "phase": "ready",
        "message": f"server running at {event.url}\n",
        "image": job.image,
        "repo_url": job.request.repo,
        "token": event.token,
        "binder_ref_url": origin.ref_url,
        "binder_launch_host": origin.launch_host,
        "binder_request": origin.request,
        "binder_persistent_request": origin.persistent_request,
        "binder_client_ip": origin.client_ip,
        "url": event.url,
    }


def launching() -> Message:
    """Return the message between a build and the first that the hub tells."""
    return {"phase": "launching", "message": "Launching server...\n"}


def waiting(message: str) -> Message:
    """Return a message for somebody who waits."""
    return {"phase": "waiting", "message": _line(message)}


def failed(message: str, status: int = 0) -> Message:
    """Return the message that ends a stream with a reason."""
    said: Message = {"phase": "failed", "message": _line(message)}
    return said | {"status_code": status} if status else said


def _state(data: Mapping[str, Any], *, build_only: bool) -> Message | None:
    state, said = data.get("state"), str(data.get("message") or "")
    if state == "queued":
        before = int(data.get("position") or 1) - 1
        queue = f" ({before} before it)" if before > 0 else ""
        return waiting(said or f"Waiting for build to start...{queue}")
    if state == "running":
        return {"phase": "fetching", "message": _line(said or "Build started")}
    if state == "built":
        return _built(str(data.get("image") or ""), found=False, build_only=build_only)
    if state == "cancelled":
        return failed(said or "the build was cancelled")
    return failed(said or "the build failed")


def _reported(data: Mapping[str, Any]) -> Message | None:
    phase = _PHASES.get(str(data.get("phase")), "building")
    kind, text = data.get("kind"), str(data.get("message") or "")
    if phase == "pushing" and kind in ("progress", "end"):
        return _pushing(data, text)
    if kind == "end" and text and data.get("seconds"):
        text = f"{text} ({data['seconds']:.1f} s)"
    # Progress by bytes is for bars; a client of BinderHub would write one line of its log for each.
    return {"phase": phase, "message": _line(text)} if text and kind != "progress" else None


def _pushing(data: Mapping[str, Any], text: str) -> Message:
    done, total = int(data.get("done") or 0), int(data.get("total") or 0)
    if data.get("kind") == "end":
        return {"phase": "pushing", "message": _line(text or "Pushed"), "progress": {_PUSHED: "Pushed"}}
    amount = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
    counts = {"current": done, "total": max(done, total)}
    return {"phase": "pushing", "message": f"Pushed {amount}\n", "progress": {_PUSHED: counts}}


def _built(image: str, *, found: bool, build_only: bool) -> Message:
    if build_only:
        return {
            "phase": "ready",
            "imageName": image,
            "message": f"Done! {'Found built image' if found else 'Image built'}\n",
        }
    return {
        "phase": "built",
        "imageName": image,
        "message": f"{'Found built image' if found else 'Built image'}, launching...\n",
    }


def _line(text: str) -> str:
    return text.rstrip("\n") + "\n"
