"""A schedd, asked without waiting: the HTCondor bindings in a child process, and their errors as sentences.

The child authenticates with the session's IDTOKEN, a file in a directory of its own, and with nothing else; encryption
and integrity are required. A child that does not answer in time is ended, and the next call starts another.
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
SPOOLING = 16  # the code of the hold in which a job waits for its input files

JobState = Literal["submitted", "idle", "running", "held", "ended"]
_STATES: dict[int, JobState] = {1: "idle", 2: "running", 5: "held", 6: "running", 7: "running"}
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
    WORKER_ATTRIBUTE,
]


@dataclass(frozen=True)
class QueuedJob:
    """A worker's job as the queue has it; ``reason`` says why it is held, has ended, or finds no slot."""

    cluster: int
    worker: str
    state: JobState
    reason: str = ""

    @classmethod
    def parse(cls, ad: Mapping[str, Any]) -> QueuedJob:
        """Read a job's ClassAd."""
        status = int(ad["JobStatus"])
        state = _STATES.get(status, "ended")
        reason = ""
        if state == "held" and ad.get("HoldReasonCode") == SPOOLING:
            state = "submitted"
        elif state == "held":
            reason = str(ad.get("HoldReason", "HTCondor gives no reason"))
        elif state == "idle" and ad.get("LastRejMatchTime", 0) >= ad.get("EnteredCurrentStatus", 0):
            reason = str(ad.get("LastRejMatchReason", ""))
        elif state == "ended":
            reason = _how_it_ended(ad)
        return cls(int(ad["ClusterId"]), str(ad.get(WORKER_ATTRIBUTE, "")), state, reason)


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
    """One session's jobs in a schedd's queue. Calls wait for each other."""

    def __init__(self, address: ScheddAddress, session: str) -> None:
        self.address = address
        self._session = f'{SESSION_ATTRIBUTE} == "{session}"'
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def submit(self, text: str) -> int:
        """Submit the job of a submit file with its input files and return its cluster.

        Raises:
            PoolError: HTCondor did not take it.
        """
        return int(await self._call(SUBMIT_SECONDS, do="submit", text=text))

    async def jobs(self) -> list[QueuedJob]:
        """Return the session's jobs.

        Raises:
            PoolError: HTCondor does not tell.
        """
        ads = await self._call(CALL_SECONDS, do="query", constraint=self._session, attributes=_ATTRIBUTES)
        return [QueuedJob.parse(ad) for ad in ads]

    async def remove(self, cluster: int | None = None) -> None:
        """Remove a job, or all of the session's; those that are gone already are no error.

        Raises:
            PoolError: HTCondor did not do it.
        """
        constraint = self._session if cluster is None else f"{self._session} && ClusterId == {cluster}"
        await self._call(CALL_SECONDS, do="remove", constraint=constraint)

    async def close(self) -> None:
        """End the child process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _call(self, seconds: float, **request: Any) -> Any:
        async with self._lock:
            self.address.check_token(time.time())
            try:
                async with asyncio.timeout(seconds):
                    answer = await self._ask(json.dumps(request))
            except TimeoutError as error:
                await self.close()
                raise PoolError(
                    f"HTCondor's schedd {self.address.name} does not answer within {seconds:.0f} s"
                ) from error
            except asyncio.CancelledError:
                await self.close()  # its answer would be taken for the next one's
                raise
        if "error" in answer:
            logger.warning("HTCondor: %s", answer["error"])
            raise PoolError(explain(answer["error"], self.address, reached=answer["reached"]))
        return answer["result"]

    async def _ask(self, line: str) -> dict[str, Any]:
        if self._process is None or self._process.returncode is not None:
            command = [sys.executable, "-P", "-m", "casabinder_runtime.pools.bindings"]
            self._process = await asyncio.create_subprocess_exec(
                *command,
                self.address.collector,
                self.address.name,
                stdin=PIPE,
                stdout=PIPE,
                env={**os.environ, **self.address.environment()},
                limit=2**24,  # bytes of one answer: a queue of thousands of jobs
            )
        assert self._process.stdin is not None  # noqa: S101  # both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(line.encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            await self.close()
            return {"error": "the process with HTCondor's bindings ended", "reached": True}
        return dict(json.loads(answer))


def explain(message: str, address: ScheddAddress, *, reached: bool) -> str:
    """Return one sentence for an error of the bindings; ``reached`` is whether the collector listens."""
    if not reached:
        return f"HTCondor's collector {address.collector} can't be reached: {message}"
    if "AUTHENTICATE:" in message or "SECMAN:" in message or "authoriz" in message.lower():
        return f"HTCondor's schedd {address.name} does not accept this session's token: {message}"
    if "knows no schedd" in message:
        return f"HTCondor: {message}"
    if "collector" in message.lower():
        # It listens and yet there is no communication: the two did not agree on who the session is.
        return f"HTCondor's collector {address.collector} does not accept this session's token: {message}"
    if "connect" in message.lower():
        return f"HTCondor's schedd {address.name} can't be reached: {message}"
    return f"HTCondor's schedd {address.name} refused: {message}"


def _how_it_ended(ad: Mapping[str, Any]) -> str:
    if "RemoveReason" in ad:
        return str(ad["RemoveReason"])
    if ad.get("ExitBySignal"):
        return f"signal {ad.get('ExitSignal', 'unknown')}"
    return f"exit status {ad.get('ExitCode', 'unknown')}"
