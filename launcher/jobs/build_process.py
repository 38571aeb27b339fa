"""The builder: one process for one attempt of one job (``python -m launcher.jobs.build_process DIRECTORY``).

It needs nothing but its directory and the site, and nobody has to listen to it::

    request.json    in    what to build (launcher.jobs.model.BuildRequest), and the limits of the log
    token           in    the user's token for the repository's host, if there is one (mode 600)
    events.jsonl    out   what happens
    result.json     out   the image's record, or the sentence that says why there is none; written last, at once
    log             out   what the builder itself has to say (for administrators)
    tmp/                  everything temporary

SIGTERM ends it as an error would: containers and files of the step that runs are removed, and there is no result.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.jobs.model import BuildRequest, Result
from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.repository.fetching import Fetching
    from builder.repository.spec import Commit, RepoSpec

REQUEST, TOKEN, EVENTS, RESULT, LOG, TEMPORARY = "request.json", "token", "events.jsonl", "result.json", "log", "tmp"
_NICE = 10
_ENDED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Task:
    """What ``request.json`` says: ``token_host`` is the host that ``token`` is for, empty without one."""

    job: str
    attempt: int
    request: BuildRequest
    log_lines: int
    token_host: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return {**vars(self), "request": self.request.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Task:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**document, "request": BuildRequest.from_json(document["request"])})


class _EndedError(BaseException):
    """Somebody wants the build to end."""


def main(arguments: Sequence[str]) -> int:
    """Build what is asked for in a directory, and leave the result there."""
    (directory,) = (Path(argument) for argument in arguments)
    signal.signal(signal.SIGTERM, _end)
    os.nice(_NICE)
    try:
        task = Task.from_json(json.loads((directory / REQUEST).read_bytes()))
        write_result(directory, _result(task, directory))
    except _EndedError:
        return _ENDED
    finally:
        (directory / TOKEN).unlink(missing_ok=True)
    return 0


def write_result(directory: Path, result: Result) -> None:
    """Write the result of a build, whole or not at all."""
    document = {"state": result.state, "message": result.message, "record": result.record}
    write_atomically(directory / RESULT, json.dumps(document).encode())


def read_result(directory: Path) -> Result | None:
    """Return the result of a build, if there is one; a file that a power cut left without its content is none."""
    try:
        return Result(**json.loads((directory / RESULT).read_bytes()))
    except (FileNotFoundError, ValueError):
        return None


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _EndedError


def _result(task: Task, directory: Path) -> Result:
    try:
        return Result("built", record=_build(task, directory))
    except CasabinderError as error:
        return Result("failed", str(error))
    except Exception as error:  # noqa: BLE001  # whatever it is, the user gets a sentence and the log the rest
        traceback.print_exc()
        return Result(
            "failed",
            f"the builder met an error of its own ({type(error).__name__}); the administrators' log has it under "
            f"job {task.job}",
        )


def _build(task: Task, directory: Path) -> Mapping[str, Any]:
    from builder.build import build
    from builder.options import BuildOptions
    from builder.repository.fetching import GitCredentials
    from builder.repository.spec import RepoSpec
    from launcher.context import open_context
    from launcher.jobs.event_file import EventWriter

    report = EventWriter(directory / EVENTS, task.log_lines)
    context = open_context()
    request, asked = task.request, task.request.asked
    credentials = GitCredentials(directory / TOKEN, task.token_host) if task.token_host else None
    facility = replace(
        context.facility,
        containers=replace(context.facility.containers, build=task.job),
        fetching=replace(context.facility.fetching, local=False, credentials=credentials),
        scratch=directory / TEMPORARY,
    )
    spec = RepoSpec(request.repo, request.ref, asked.subdirectory)
    with closing(facility.store):
        record = build(
            spec,
            context.bases(asked.base or None),
            facility,
            report,
            options=BuildOptions(asked.as_of),
            rebuild=asked.rebuild,
            commit=known_commit(spec, request.commit, facility.fetching),
        )
    return record.to_json()


def known_commit(spec: RepoSpec, commit: str, fetching: Fetching) -> Commit:
    """Return the commit that ``spec.ref`` was resolved to when the job was made.

    Of a git repository nothing is asked. A record of an archive is, since what it holds is not in its id; raises
    :class:`RepositoryError` when that has changed.
    """
    from builder.repository.checkout import resolve_ref

    found = resolve_ref(replace(spec, ref=commit), fetching)
    if found.deposit is not None:
        return replace(found, spec=replace(found.spec, ref=spec.ref))
    return replace(found, spec=spec, ref=spec.ref)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
