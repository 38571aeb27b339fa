from __future__ import annotations

import socket

import pytest
from casabinder_runtime.ports import first_free_port


def test_a_port_that_is_taken_or_excluded_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        found = first_free_port(port)
        assert found > port
        assert first_free_port(port, but=frozenset({found})) > found
        with pytest.raises(OSError, match=f"between {port} and {port}: stop what listens there"):
            first_free_port(port, tries=1)
