"""What bases are made of in these tests: real wheels from an index, a small archive in mmdebstrap's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from base_images.definition import Definition, read_definition
from base_images.locking import lock_base
from tests.testbed.interpreter import INTERPRETER_FILES
from tests.testbed.packages import Index, running_index
from tests.unit.base_images.small_base import DOCUMENT, WHEELS, workshop, write_definition
from tests.unit.base_images.test_rootfs import archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def index() -> Iterator[Index]:
    """A package index with the wheels of the small base."""
    with running_index(WHEELS) as running:
        yield running


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in its place that gives a small archive."""
    archive(tmp_path / "prepared", 1, INTERPRETER_FILES)
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\ncp {tmp_path}/prepared "$3"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


@pytest.fixture
def definition(tmp_path: Path, index: Index) -> Definition:
    """The small base, locked."""
    directory = write_definition(tmp_path / "catalogue" / "small", DOCUMENT, server="server-app\n", analysis="plots\n")
    lock_base(read_definition(directory), workshop(tmp_path / "locking", index))
    return read_definition(directory)
