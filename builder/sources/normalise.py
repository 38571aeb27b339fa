"""Writes a wheel again so that its bytes depend on what is in it: order, times, modes and compression are fixed.

A build backend puts files into the zip in the order of its directory walk, with times of day and whatever its zlib
makes of them. Here the members are sorted (``*.dist-info`` last, RECORD at its end, as the format recommends), dated
1980-01-01, 0644 or 0755, and stored: no compressor takes part, whose bytes would be another machine's problem, and the
wheel's layer is compressed anyway. The lines of RECORD are sorted; its hashes are the builder's, and stay.
"""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from builder.layers.archive import check_path
from builder.layers.content import read_content
from builder.layers.layer import Entry
from builder.layers.wheelfile import open_wheel
from builder.sources.errors import SourceBuildError

if TYPE_CHECKING:
    from pathlib import Path

MOST_UNPACKED = 4 * 2**30
_DATE = (1980, 1, 1, 0, 0, 0)
_PLAIN = re.compile(r"[A-Za-z0-9_.!+-]{1,200}\.whl")


def check_filename(filename: str) -> None:
    """Raise :class:`SourceBuildError` unless ``filename`` is a wheel's, and safe as the name of a file."""
    try:
        parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise SourceBuildError(f"{filename!r} is not the name of a wheel") from error
    if not _PLAIN.fullmatch(filename):
        raise SourceBuildError(f"{filename!r} is not the name of a wheel")


def normalise_wheel(wheel: Path, destination: Path) -> None:
    """Write ``wheel`` to ``destination`` in the form that the module describes.

    Raises :class:`~builder.layers.errors.LayerError` for a file that is no proper wheel (the checks are those that any
    wheel gets before it becomes a layer) and :class:`SourceBuildError` for one that unpacks to too much.
    """
    with open_wheel(wheel) as opened, zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as sink:
        if sum(member.size for member in opened.members) > MOST_UNPACKED:
            raise SourceBuildError(f"{wheel.name} unpacks to more than {MOST_UNPACKED // 2**30} GiB")
        record = f"{opened.dist_info}/RECORD"

        def order(name: str) -> tuple[bool, bool, str]:
            return (name == record, name.startswith(f"{opened.dist_info}/"), name)

        for member in sorted(opened.members, key=lambda member: order(member.name)):
            check_path(member.name)
            about = zipfile.ZipInfo(member.name, _DATE)
            about.create_system = 3
            about.external_attr = (0o100755 if member.executable else 0o100644) << 16
            if member.name == record:
                lines = opened.read_text("RECORD").splitlines()
                sink.writestr(about, "".join(f"{line}\n" for line in sorted(lines) if line))
                continue
            about.file_size = member.size
            with sink.open(about, "w", force_zip64=member.size >= 2**31) as file:
                for chunk in read_content(Entry(member.name, "file", member.content())):
                    file.write(chunk)
