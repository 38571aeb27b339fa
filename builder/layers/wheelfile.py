"""Opens a wheel and reads what it says of itself.

Sources: the binary distribution format and the core metadata specification (packaging.python.org).
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from builder.layers.errors import LayerError
from builder.layers.members import Member, read_members

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGEST_TEXT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Wheel:
    """An opened wheel: its file, the distribution part of its file name, ``*.dist-info``, and its files."""

    path: Path
    distribution: str
    dist_info: str
    members: tuple[Member, ...]
    zipped: zipfile.ZipFile

    def read(self, name: str) -> bytes:
        """Return a small file of the wheel; :class:`LayerError` if it is missing, damaged or over 16 MiB."""
        try:
            if self.zipped.getinfo(name).file_size > _LARGEST_TEXT:
                raise LayerError(f"{self.path.name}: {name!r} has more than 16 MiB, too many for a text")
            return self.zipped.read(name)
        except KeyError as error:
            raise LayerError(f"{self.path.name} is not a wheel: it has no {name}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise LayerError(f"{self.path.name}: the file {name!r} is damaged or was tampered with") from error

    def read_text(self, name: str) -> str:
        """Return a small file of ``dist-info`` as text."""
        try:
            return self.read(f"{self.dist_info}/{name}").decode()
        except UnicodeDecodeError as error:
            raise LayerError(f"{self.path.name}: {name} is not UTF-8") from error

    def starts_with(self, member: Member, text: bytes) -> bool:
        """Whether the content of ``member`` starts with ``text``."""
        try:
            with self.zipped.open(member.name) as file:
                return file.read(len(text)) == text
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise LayerError(f"{self.path.name}: the file {member.name!r} is damaged or was tampered with") from error


@dataclass(frozen=True)
class WheelMetadata:
    """What an inventory says of a wheel. ``top_level`` are the names it adds to ``site-packages``, sorted."""

    name: str
    version: str
    requires_dist: tuple[str, ...]
    requires_python: str
    top_level: tuple[str, ...]


@contextlib.contextmanager
def open_wheel(path: Path) -> Iterator[Wheel]:
    """Open the wheel at ``path``; entries made from it stay usable after it is closed, as long as the file is there.

    Raises:
        LayerError: the file name is not a wheel's, or the file is not a zip, has no single fitting ``dist-info``, is
            of another wheel version than 1, or is a zip that is not to be trusted (see :mod:`builder.layers.members`).
    """
    try:
        parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise LayerError(f"{path.name!r} is not the name of a wheel (name-version-python-abi-platform.whl)") from error
    with contextlib.ExitStack() as stack:
        try:
            zipped = stack.enter_context(zipfile.ZipFile(path))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise LayerError(f"{path.name} is not a zip, or damaged") from error
        except OSError as error:
            raise LayerError(f"{path.name} cannot be read: {error.strerror}") from error
        members = read_members(path, zipped)
        wheel = Wheel(path, path.name.split("-")[0], _dist_info(path, members), members, zipped)
        version = HeaderParser().parsestr(wheel.read_text("WHEEL")).get("Wheel-Version", "")
        if not version.startswith("1."):
            raise LayerError(f"{path.name} has the wheel version {version!r}; only 1.x is known")
        yield wheel


def metadata(wheel: Wheel) -> WheelMetadata:
    """Return what the wheel's METADATA says."""
    message = HeaderParser().parsestr(wheel.read_text("METADATA"))
    tops = {member.name.split("/")[0] for member in wheel.members}
    return WheelMetadata(
        name=str(message.get("Name", wheel.distribution)),
        version=str(message.get("Version", "")),
        requires_dist=tuple(str(requirement) for requirement in message.get_all("Requires-Dist", [])),
        requires_python=str(message.get("Requires-Python", "")),
        top_level=tuple(sorted(top for top in tops if not top.endswith((".dist-info", ".data")))),
    )


def _dist_info(path: Path, members: tuple[Member, ...]) -> str:
    tops = {member.name.split("/")[0] for member in members if "/" in member.name}
    found = [top for top in tops if top.endswith(".dist-info")]
    if len(found) != 1:
        raise LayerError(f"{path.name} is not a wheel: it has {len(found)} .dist-info directories instead of one")
    if canonicalize_name(found[0].rsplit("-", 2)[0]) != canonicalize_name(path.name.split("-")[0]):
        raise LayerError(f"{path.name} is not what its name says: it holds {found[0]}")
    return found[0]
