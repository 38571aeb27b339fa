"""A schedd, asked without waiting: the HTCondor bindings in a child process, and their errors as sentences.

The child authenticates with the session's IDTOKEN, a file in a directory of its own, and with nothing else; encryption
and integrity are required. A child that does not answer in time is ended, and the next call starts another. It has a
process group of its own: a signal for the session's would end it when its jobs have yet to be removed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from casabinder_runtime.errors import PoolError
from casabinder_runtime.pools.submission import SESSION_ATTRIBUTE, WORKER_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

SUBMIT_SECONDS = 30.0
CALL_SECONDS = 8.0
RETRIEVE_SECONDS = 15.0
SIGNALS = 128  # added to a signal's number it is the exit status of what the signal ended
_KILL = 9
# A schedd that is ending, has ended, or is another one than before: it forgot the keys agreed on (condor_secman.cpp).
_BROKEN = ("SECMAN:2003", "SECMAN:2004", "SECMAN:2007")
_NOT_TAKEN = ("AUTHENTICATE:", "SECMAN:", "collector")  # in errors that come before a job is submitted
SPOOLING = 16  # the code of the hold in which a job waits for its input files

JobState = Literal["submitted", "idle", "fetching", "running", "leaving", "held", "ended"]
_COMPLETED = 4
_STATES: dict[int, JobState] = {1: "idle", 2: "running", 5: "held", 6: "leaving", 7: "running"}
_ATTRIBUTES = [
    "ClusterId",
    "JobStatus",
    "HoldReason",
    "HoldReasonCode",
    "ExitBySignal",
    "ExitCode",
    "ExitSignal",
    "LastRejMatchReason",
    "LastRejMatchTime",
    "EnteredCurrentStatus",
    "RemoveReason",
    "VacateReason",
    "RemoteHost",
    "LastRemoteHost",
    "JobCurrentStartDate",
    "JobCurrentStartExecutingDate",
    "BytesSent",
    WORKER_ATTRIBUTE,
]


@dataclass(frozen=True)
class QueuedJob:
    """A worker's job as the queue has it.

    ``reason`` says why it is held, has ended, or finds no slot; ``vacated`` why it was sent away from its last node.
    ``started`` is when it was last given to a node (seconds, Unix), which tells one run from the next; ``since`` when
    its state began. ``status`` is the exit status of one that ended by itself, ``output`` the bytes that it left.
    """

    cluster: int
    worker: str
    state: JobState
    reason: str = ""
    node: str = ""
    started: int = 0
    since: int = 0
    vacated: str = ""
    status: int | None = None
    output: int = 0

    @classmethod
    def parse(cls, ad: Mapping[str, Any]) -> QueuedJob:
        """Read a job's ClassAd."""
        status = int(ad["JobStatus"])
        state = _STATES.get(status, "ended")
        started, since = int(ad.get("JobCurrentStartDate", 0)), int(ad.get("EnteredCurrentStatus", 0))
        reason = ""
        if state == "running" and ad.get("JobCurrentStartExecutingDate", 0) < started:
            state = "fetching"  # HTCondor calls a job running before its node has the image
        if state == "held" and ad.get("HoldReasonCode") == SPOOLING:
            state = "submitted"
        elif state == "held":
            reason = str(ad.get("HoldReason", "HTCondor gives no reason"))
        elif state == "idle" and ad.get("LastRejMatchTime", 0) >= since:
            reason = str(ad.get("LastRejMatchReason", ""))
        elif state == "ended":
            reason = _how_it_ended(ad)
        return cls(
            cluster=int(ad["ClusterId"]),
            worker=str(ad.get(WORKER_ATTRIBUTE, "")),
            state=state,
            reason=reason,
            node=_node(str(ad.get("RemoteHost") or ad.get("LastRemoteHost") or "")),
            started=started,
            since=since,
            vacated=str(ad.get("VacateReason", "")),
            status=_exit_status(ad) if status == _COMPLETED else None,
            output=int(ad.get("BytesSent", 0)),
        )


@dataclass(frozen=True)
class ScheddAddress:
    """Where jobs are submitted, and the file of the token that allows it; ``host`` is this machine's own address."""

    collector: str
    name: str
    trust_domain: str
    token: Path
    host: str

    def environment(self) -> dict[str, str]:
        """Return HTCondor's configuration as environment variables; there is no configuration file."""
        settings = {
            "COLLECTOR_HOST": self.collector,
            "CONDOR_HOST": self.collector.rpartition(":")[0] or self.collector,
            "TRUST_DOMAIN": self.trust_domain,
            "UID_DOMAIN": self.trust_domain,
            "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            "SEC_DEFAULT_AUTHENTICATION": "REQUIRED",
            "SEC_DEFAULT_ENCRYPTION": "REQUIRED",
            "SEC_DEFAULT_INTEGRITY": "REQUIRED",
            "SEC_TOKEN_DIRECTORY": str(self.token.parent),
            "SEC_TOKEN_SYSTEM_DIRECTORY": str(self.token.parent),  # the one that root's processes read
        }
        if self.host.startswith("127."):
            settings |= {"NETWORK_INTERFACE": self.host, "ENABLE_IPV6": "False"}
        return {"CONDOR_CONFIG": "/dev/null", **{f"_CONDOR_{name}": value for name, value in settings.items()}}

    def check_token(self, now: float) -> None:
        """Raise :class:`PoolError` if the token is not there, is none, or had expired at ``now`` (seconds, Unix)."""
        try:
            text = self.token.read_text(encoding="ascii").strip()
            payload = text.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            expiry = float(claims.get("exp", "inf"))
        except OSError as error:
            raise PoolError(f"the HTCondor token of this session cannot be read: {error.strerror}") from error
        except (IndexError, ValueError, AttributeError) as error:
            raise PoolError("the HTCondor token of this session is damaged: launch the notebook again") from error
        if expiry <= now:
            when = datetime.fromtimestamp(expiry, UTC).strftime("%H:%M UTC on %Y-%m-%d")
            raise PoolError(f"the HTCondor token of this session expired at {when}: launch the notebook again")


class Schedd:
    """One session's jobs in a schedd's queue; their output goes to ``outputs``. Calls wait for each other."""

    def __init__(self, address: ScheddAddress, session: str, outputs: Path) -> None:
        self.address = address
        self._outputs = outputs
        self._session = session_constraint(session)
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._submitting = False
        self._ending = False
        self._may_have_jobs = False

    async def submit(self, text: str) -> int:
        """Submit the job of a submit file with its input files and return its cluster.

        Raises:
            PoolError: HTCondor did not take it, or :meth:`end_submitting` was called.
        """
        return int(await self._call(SUBMIT_SECONDS, do="submit", text=text))

    async def end_submitting(self) -> None:
        """Refuse to submit from now on, and give up what is being submitted, so that nothing waits for it."""
        self._ending = True
        if self._submitting:
            await self.close()

    async def jobs(self) -> list[QueuedJob]:
        """Return the session's jobs.

        Raises:
            PoolError: HTCondor does not tell.
        """
        ads = await self._call(CALL_SECONDS, do="query", constraint=self._session, attributes=_ATTRIBUTES)
        return [QueuedJob.parse(ad) for ad in ads]

    async def remove(self, cluster: int | None = None) -> int:
        """Remove a job, or all of the session's; return how many there were: those that are gone are no error.

        HTCondor is not asked when it has never been given any.

        Raises:
            PoolError: HTCondor did not do it.
        """
        if not self._may_have_jobs:
            return 0
        return int(await self._call(CALL_SECONDS, do="remove", constraint=self._which(cluster)))

    async def retrieve(self, cluster: int) -> None:
        """Fetch the output files of a job that has ended or is held.

        Raises:
            PoolError: HTCondor does not give them.
        """
        await self._call(RETRIEVE_SECONDS, do="retrieve", constraint=self._which(cluster))

    async def remove_session(self, session: str) -> int:
        """Remove the jobs of another session of this user; return how many there were.

        Raises:
            PoolError: HTCondor did not do it.
        """
        return int(await self._call(CALL_SECONDS, do="remove", constraint=session_constraint(session)))

    async def close(self) -> None:
        """End the child process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _which(self, cluster: int | None) -> str:
        return self._session if cluster is None else f"{self._session} && ClusterId == {cluster}"

    async def _call(self, seconds: float, **request: Any) -> Any:
        async with self._lock:
            submits = request["do"] == "submit"
            if submits and self._ending:
                raise PoolError("the session is ending")
            self.address.check_token(time.time())
            had_jobs = self._may_have_jobs
            self._submitting, self._may_have_jobs = submits, had_jobs or submits
            try:
                async with asyncio.timeout(seconds):
                    answer = await self._ask(request)
            except TimeoutError as error:
                await self.close()
                raise PoolError(
                    f"HTCondor's schedd {self.address.name} does not answer within {seconds:.0f} s"
                ) from error
            except OSError as error:
                raise PoolError(f"HTCondor's bindings can't be started: {error}") from error
            except asyncio.CancelledError:
                await self.close()  # its answer would be taken for the next one's
                raise
            finally:
                self._submitting = False
            if "error" in answer and not answer["submitted"]:
                refused = not answer["reached"] or any(word in answer["error"] for word in _NOT_TAKEN)
                self._may_have_jobs = had_jobs or (submits and not refused)
        if "error" in answer:
            logger.warning("HTCondor: %s", answer["error"])
            raise PoolError(explain(answer["error"], self.address, reached=answer["reached"]))
        return answer["result"]

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the child; one that ended since it was asked last is replaced, but nothing is submitted twice."""
        used = self._process is not None
        answer = await self._ask_child(request)
        if answer is None and used and request["do"] != "submit":
            answer = await self._ask_child(request)
        return answer or {"error": "the process with HTCondor's bindings ended", "reached": True, "submitted": True}

    async def _ask_child(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        if self._process is None or self._process.returncode is not None:
            command = [sys.executable, "-P", "-m", "casabinder_runtime.pools.bindings"]
            self._process = await asyncio.create_subprocess_exec(
                *command,
                self.address.collector,
                self.address.name,
                stdin=PIPE,
                stdout=PIPE,
                env={**os.environ, **self.address.environment()},
                cwd=self._outputs,  # where HTCondor brings what a job wrote: to where it was submitted
                limit=2**24,  # bytes of one answer: a queue of thousands of jobs
                start_new_session=True,
            )
        assert self._process.stdin is not None  # noqa: S101  # both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer.endswith(b"\n"):
            await self.close()
            return None
        return dict(json.loads(answer))


def explain(message: str, address: ScheddAddress, *, reached: bool) -> str:
    """Return one sentence for an error of the bindings; ``reached`` is whether the collector listens.

    What can't be reached has the same sentence each time, so that it is said once; the log has the bindings' words.
    """
    if not reached:
        return f"HTCondor's collector {address.collector} can't be reached"
    if any(code in message for code in _BROKEN):
        return f"HTCondor's schedd {address.name} can't be reached"
    if "AUTHENTICATE:" in message or "SECMAN:" in message or "authoriz" in message.lower():
        return f"HTCondor's schedd {address.name} does not accept this session's token: {message}"
    if "knows no schedd" in message:
        return f"HTCondor: {message}"
    if "collector" in message.lower():
        # It listens and yet there is no communication: the two did not agree on who the session is.
        return f"HTCondor's collector {address.collector} does not accept this session's token: {message}"
    if "connect" in message.lower():
        return f"HTCondor's schedd {address.name} can't be reached"
    return f"HTCondor's schedd {address.name} refused: {message}"


def session_constraint(session: str) -> str:
    """Return the expression that is true of a session's jobs.

    Raises:
        PoolError: it is no name of a session.
    """
    if not session.isalnum():
        raise PoolError(f"{session!r} is not the name of a session")
    return f'{SESSION_ATTRIBUTE} == "{session}"'


def _how_it_ended(ad: Mapping[str, Any]) -> str:
    if "RemoveReason" in ad:
        return f"was removed from the queue ({ad['RemoveReason']})"
    status, signal = ad.get("ExitCode", "unknown"), ad.get("ExitSignal", "unknown")
    by_signal = bool(ad.get("ExitBySignal"))
    killed = " (it was killed)" if (signal == _KILL if by_signal else status == SIGNALS + _KILL) else ""
    return f"ended by signal {signal}{killed}" if by_signal else f"ended with status {status}{killed}"


def _exit_status(ad: Mapping[str, Any]) -> int:
    """Return the exit status of a job that has ended, as a shell has it: of one that was killed it tells the signal."""
    if ad.get("ExitBySignal"):
        return SIGNALS + int(ad.get("ExitSignal", 0))
    return int(ad.get("ExitCode", 0))


def _node(host: str) -> str:
    """Return the node of a slot such as ``slot1_1@node2@testbed`` or ``slot1@node2.example.org``."""
    return host.split("@")[1].split(".")[0] if "@" in host else host
