"""A token as a file that no disk ever sees: it is in memory, for this user alone, and gone with the process."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def token_file(token: str) -> Iterator[Path]:
    """Give the path of a file of mode 600 that holds the token, for this process and those that it starts.

    A file in a temporary directory would stay behind when the process is killed.
    """
    descriptor = os.memfd_create("casabinder-token")
    try:
        os.fchmod(descriptor, 0o600)
        with open(descriptor, "w", encoding="utf-8", closefd=False) as sink:
            sink.write(token)
        yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)
