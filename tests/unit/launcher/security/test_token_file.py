"""A token as a file in memory."""

from __future__ import annotations

import stat
import subprocess

from builder.repository.fetching import GitCredentials
from launcher.security.token_file import token_file


def test_it_is_a_file_for_this_process_and_its_children() -> None:
    with token_file("user:token") as file:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert GitCredentials(file, "github.com").login() == ("user", "token")
        for _ in range(2):
            assert subprocess.run(["cat", file], capture_output=True, check=True).stdout == b"user:token"
    assert not file.exists()
