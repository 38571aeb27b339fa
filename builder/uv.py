"""Calls uv as a program, with none of the user's own uv configuration and a filtered environment."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from builder.escapes import without_colours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PASSED_ON = re.compile(r"(PATH|HOME|TMPDIR|LANG|LC_ALL|SSL_CERT_(FILE|DIR)|(HTTPS?|NO|ALL)_PROXY)", re.IGNORECASE)


def run_uv(
    arguments: Sequence[str], directory: Path, seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run ``uv ARGUMENTS`` in ``directory`` and return its status, what it wrote, and what it said to the user.

    ``environment`` comes on top of what is passed on. Raises :class:`TimeoutError` after ``seconds``.
    """
    from uv import find_uv_bin

    passed_on = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    try:
        done = subprocess.run(
            [str(find_uv_bin()), *arguments, "--no-config", "--no-python-downloads"],
            cwd=directory,
            env={**passed_on, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"uv did not end within {seconds:.0f} s") from error
    said = without_colours(done.stderr.decode("utf-8", "replace"))
    return done.returncode, done.stdout.decode("utf-8", "replace"), said
