"""What is an LFS pointer."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.repository.lfs import Pointer, parse_pointer
from tests.testbed.git_server import pointer


@given(st.binary())
def test_a_pointer_names_its_object(content: bytes) -> None:
    found = parse_pointer(pointer(content).encode())
    assert found == Pointer(hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version https://git-lfs.github.com/spec/v1\n",
        pointer(b"").replace("spec/v1", "spec/v2"),
        pointer(b"").replace("sha256", "md5"),
        pointer(b"").replace("size 0", "size -1"),
        pointer(b"") + "\0",
        pointer(b"") + "x" * 1024,
        "x" + pointer(b""),
    ],
)
def test_what_is_no_pointer(text: str) -> None:
    assert parse_pointer(text.encode()) is None


@given(st.binary(max_size=1100))
def test_any_bytes_are_read_without_harm(content: bytes) -> None:
    assert parse_pointer(content) is None
