"""Runs the site's command that renews a token for data, such as ``htgettoken`` or ``oidc-token``.

It is an argument list. The token is what it writes to its standard output, or, if one of the arguments has ``{file}``
in it, to the file of that name. What it says is not logged: of its complaints the last line is told, without anything
that could be a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from typing import TYPE_CHECKING

from casabinder_runtime.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PLACE = "{file}"
COMMAND_SECONDS = 20.0
_LONGEST_COMPLAINT = 200
_LONG_WORD = re.compile(r"\S{40,}")


class CommandError(CasabinderError):
    """The command gave no token; the message is the part of a sentence that says why."""


async def run_token_command(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], seconds: float = COMMAND_SECONDS
) -> str:
    """Run the command and return its token; ``{file}`` is in ``directory``, which is made if need be.

    Raises:
        CommandError: it can't be started, fails, takes longer than ``seconds``, or gives no token.
        OSError: the directory can't be written to.
    """
    name = command[0]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = directory / ".renewed"
    place.unlink(missing_ok=True)
    arguments = [word.replace(PLACE, str(place)) for word in command]
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"the site's command ({name}) can't be run here: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            said, complaints = await process.communicate()
        if process.returncode:
            raise CommandError(
                f"the site's command ({name}) ended with status {process.returncode}{_last_words(complaints)}"
            )
        token = place.read_text(encoding="utf-8") if any(PLACE in word for word in command) else said.decode()
    except TimeoutError as error:
        raise CommandError(f"the site's command ({name}) did not end within {seconds:.0f} s") from error
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise CommandError(f"the site's command ({name}) gave no token") from error
    finally:
        with contextlib.suppress(ProcessLookupError):  # whatever it has started goes with it
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        place.unlink(missing_ok=True)
    if len(token.split()) != 1:
        raise CommandError(f"the site's command ({name}) gave no token")
    return token.strip()


def _last_words(complaints: bytes) -> str:
    lines = complaints.decode(errors="replace").strip().splitlines()
    if not lines:
        return ""
    return ": " + _LONG_WORD.sub("...", " ".join(lines[-1].split()))[:_LONGEST_COMPLAINT].rstrip(". ")
