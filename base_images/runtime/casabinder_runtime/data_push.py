"""Gives the credentials for data to the workers, through the scheduler's own TLS connections, and keeps them fresh.

A Dask worker plugin carries them. The scheduler sends its plugins in the answer to a worker's registration, and the
worker sets them up before it takes its first task (``distributed.Worker._register_with_scheduler``); a newer plugin of
the same name is sent to all workers at once. So a credential is in memory and in files of mode 0400 of the worker's own
directory, and in no job description, environment or argument.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import WorkerPlugin
from distributed.protocol.pickle import dumps

from casabinder_runtime.data_access import PUSHED_TOPIC, find_credentials, install, own_file, write_private
from casabinder_runtime.data_renewal import NOTICE, Memory, after_command, decide, is_newer
from casabinder_runtime.notices import TOPIC, Notice
from casabinder_runtime.token_command import CommandError, run_token_command
from casabinder_runtime.xrootd_connections import connect_anew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from distributed import Scheduler, Worker

    from casabinder_runtime.data_access import Credential, Kind

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
PUSH_SECONDS = 30.0  # until a worker that does not answer is given up, and all are tried again
PUSH_RETRY_SECONDS = 15.0
_SERIAL = "_casabinder_data_serial"


class DataCredentials(WorkerPlugin):  # type: ignore[misc]  # distributed is untyped
    """Writes credentials into the worker's directory; ``serial`` grows with every push."""

    name = "casabinder-data-access"

    def __init__(self, serial: int, contents: Mapping[Kind, str]) -> None:
        self._serial = serial
        self._contents = dict(contents)

    def setup(self, worker: Worker) -> None:
        """Called by Dask before the first task, and at every push.

        The plugin of the registration may come in after a newer one that was pushed meanwhile.
        """
        if getattr(worker, _SERIAL, -1) < self._serial:
            install(self._contents, Path(worker.local_directory).absolute() / "credentials", os.environ)
            setattr(worker, _SERIAL, self._serial)
            connect_anew(self._serial)


class DataAccess:
    """Looks after the credentials of one session; ``command`` is the site's, if it has one.

    ``scheduler`` is that of its first cluster; others are added as they open.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        command: Sequence[str] = (),
        *,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._schedulers = [scheduler]
        self._command = tuple(command)
        self._environment = environment
        self._clock = clock
        self._memory = Memory()
        self._serial = 0
        self._push_again = 0.0
        self._complaints: set[str] = set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def add(self, scheduler: Scheduler) -> None:
        """Give the workers of one more cluster what the others have, before there are any."""
        self._schedulers.append(scheduler)
        await self._push(find_credentials(self._environment), [scheduler])

    def remove(self, scheduler: Scheduler) -> None:
        """Forget a cluster that ends; it need not have been added."""
        if scheduler in self._schedulers:
            self._schedulers.remove(scheduler)

    async def look(self) -> None:
        """Look once, and do what is to be done; what goes wrong is told and tried again."""
        try:
            await self._look()
        except Exception:
            logger.exception("the credentials for data could not be looked after")

    async def _look(self) -> None:
        found = find_credentials(self._environment)
        plan = decide(found, self._memory, self._clock(), with_command=bool(self._command))
        if plan.renew:
            found = await self._renew(found)
            plan = decide(found, self._memory, self._clock(), with_command=False)
        self._memory = plan.memory
        self._announce(plan.notices)
        if plan.push and self._clock() >= self._push_again:
            if await self._push(found, self._schedulers):
                self._memory = replace(plan.memory, pushed=plan.pushed)
                self._announce(plan.news)
            else:
                self._push_again = self._clock() + PUSH_RETRY_SECONDS

    async def _renew(self, found: Sequence[Credential]) -> list[Credential]:
        """Run the site's command and return what there is then."""
        failure = ""
        file = own_file("token", self._environment)
        try:
            token = await run_token_command(self._command, file.parent, self._environment)
            write_private(file, token)
        except CommandError as error:
            failure = str(error)
        except OSError as error:
            failure = f"{file} can't be written: {error.strerror}"
        renewed = find_credentials(self._environment)
        if not failure and not is_newer(_token(renewed), _token(found)):
            failure = f"the site's command ({self._command[0]}) gave no newer one"
        self._memory, notices = after_command(self._memory, failure, self._clock())
        self._announce(notices)
        return renewed

    async def _push(self, found: Iterable[Credential], schedulers: Iterable[Scheduler]) -> bool:
        """Give the credentials to all workers, those to come included; tell whether all that are there have them."""
        self._serial += 1
        contents = {credential.kind: credential.content for credential in found}
        plugin = DataCredentials(self._serial, contents)
        done = await asyncio.gather(*(self._push_to(scheduler, plugin) for scheduler in list(schedulers)))
        if not all(done):
            return False
        for credential in found:
            logger.info("workers have the %s of %s, good until %s", credential.kind, credential.source, credential.ends)
        return True

    async def _push_to(self, scheduler: Scheduler, plugin: DataCredentials) -> bool:
        try:
            async with asyncio.timeout(PUSH_SECONDS):
                answers: dict[str, Any] = await scheduler.register_worker_plugin(
                    None, dumps(plugin), name=plugin.name, idempotent=False
                )
        except (OSError, TimeoutError) as error:  # a worker that is lost; it, or its successor, gets them next time
            logger.warning("not every worker has the credentials for data yet: %s", error or "no answer in time")
            return False
        for address, answer in answers.items():
            if answer.get("status") != "OK":
                self._complain(f"The worker at {address} could not store the credentials for data: {_reason(answer)}.")
        scheduler.log_event(PUSHED_TOPIC, {"serial": self._serial})
        return True

    def _complain(self, message: str) -> None:
        if message not in self._complaints:
            self._complaints.add(message)
            self._announce([Notice(NOTICE, message)])

    def _announce(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            logger.warning("%s", notice.message)
            for scheduler in self._schedulers:
                scheduler.log_event(TOPIC, notice.event())


def _token(found: Sequence[Credential]) -> Credential | None:
    return next((credential for credential in found if credential.kind == "token"), None)


def _reason(answer: Mapping[str, Any]) -> str:
    return str(answer.get("exception_text") or answer.get("status"))
