"""Installs wheels with PyPA's ``installer``, to compare with what the layers hold."""

from __future__ import annotations

import posixpath
import stat
import warnings
from typing import TYPE_CHECKING

import installer
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

from builder.layers.wheel import INSTALLER, InstallTarget

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.builder.layers.helpers import Found


def install_with_oracle(wheel: Path, root: Path, target: InstallTarget) -> dict[str, tuple[int, bytes]]:
    """Install ``wheel`` below ``root`` and return mode and content of every file by its path in the image."""
    with WheelFile.open(wheel) as source:
        destination = SchemeDictionaryDestination(
            {
                "purelib": f"/{target.purelib}",
                "platlib": f"/{target.platlib}",
                "scripts": f"/{target.scripts}",
                "data": f"/{target.data}",
                "headers": f"/{target.headers(source.distribution)}",
            },
            interpreter=target.interpreter,
            script_kind="posix",
            destdir=str(root),
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skip installing", RuntimeWarning)
            installer.install(source, destination, {"INSTALLER": INSTALLER})
    return {
        str(path.relative_to(root)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


def files_of(layer: dict[str, Found]) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of the files of a layer."""
    return {path: (found.mode, found.data) for path, found in layer.items() if found.kind == b"0"}


def plain_record(text: bytes) -> list[str]:
    """Return RECORD's lines with plain paths: ``installer`` writes ``./x`` for purelib files of a platlib wheel."""
    return [posixpath.normpath(line.partition(",")[0]) + "," + line.partition(",")[2] for line in text.decode().split()]
