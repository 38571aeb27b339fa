"""What a build job is: what was asked for, its state, and the events of its log. Values only; nothing here does I/O."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Literal["queued", "running", "built", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
ENDED: frozenset[State] = frozenset(("built", "failed", "cancelled"))
INTERACTIVE, PREBUILD = 0, 10
"""Priorities: somebody waits, nobody waits. The lower is built first."""


@dataclass(frozen=True)
class Asked:
    """What somebody asks to have built. ``provider`` and ``spec`` are BinderHub's (``gh``, ``user/repo/ref``); ``base``
    and ``as_of`` are empty unless stated; ``rebuild`` does not take what is there."""

    provider: str
    spec: str
    base: str = ""
    as_of: str = ""
    subdirectory: str = ""
    rebuild: bool = False


@dataclass(frozen=True)
class BuildRequest:
    """What a build process is told. No secret is in it: ``credential`` is the id of a token in the vault, or empty.

    ``repo`` and ``ref`` are as :class:`builder.repository.spec.RepoSpec` has them, ``commit`` is the full id that
    ``ref`` was resolved to when the job was made: just that commit is built, wherever the ref has gone since.
    """

    asked: Asked
    repo: str
    ref: str
    commit: str
    credential: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the request as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BuildRequest:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**document, "asked": Asked(**document["asked"])})


@dataclass(frozen=True)
class Job:
    """A build. Times are seconds since 1970; ``position`` counts from 1 and is 0 unless the job is queued.

    ``owner`` is the principal that asked first (:attr:`launcher.security.principal.Principal.owner`). The log and the
    record of a ``private`` job are for its owner and admins alone. ``message`` is the sentence of a failure;
    ``image`` (tag reference), ``digest`` and ``env_id`` are those of what was built. ``attempt`` counts from 1.
    """

    id: str
    key: str
    state: State
    request: BuildRequest
    owner: str
    created: float
    private: bool = False
    priority: int = INTERACTIVE
    started: float | None = None
    finished: float | None = None
    position: int = 0
    attempt: int = 1
    message: str = ""
    image: str = ""
    digest: str = ""
    env_id: str = ""
    last_event: int = 0
    cancelling: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED


@dataclass(frozen=True)
class JobEvent:
    """One line of a job's log; ``number`` counts from 1 without gaps, ``time`` is seconds since 1970.

    ``data`` is either what the builder reported (:meth:`builder.events.Event.to_json`: ``kind`` start, progress, end or
    message, with ``phase``, ``message``, ``done``, ``total``, ``seconds``) or a change of state: ``kind`` ``state``
    with ``state``, and where they apply ``message``, ``position``, ``attempt``, ``image``, ``digest``, ``env_id``.
    """

    number: int
    time: float
    data: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the event as a JSON object, as the API has it."""
        return {"number": self.number, "time": round(self.time, 3), **self.data}

    @cached_property
    def text(self) -> str:
        """The event as one line of JSON, made once for all who watch the job."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    @property
    def last(self) -> bool:
        """Whether the job has ended with it."""
        return self.data.get("kind") == "state" and self.data.get("state") in ENDED


@dataclass(frozen=True)
class Result:
    """How a build process ended: the record of an image as JSON, or the sentence that says why there is none."""

    state: Literal["built", "failed", "cancelled"]
    message: str = ""
    record: Mapping[str, Any] | None = None
