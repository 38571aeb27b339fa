"""Makes the entries of a layer from a wheel, so that the layer holds what installing the wheel would put on disk.

Nothing is unpacked: a wheel is a zip, its members are mapped to their places in the image, and their compressed bytes
are handed on as they are (see :mod:`builder.layers.archive`)::

    pkg/core.so                      srv/env/lib/python3.13/site-packages/pkg/core.so       verbatim
    pkg-1.0.data/scripts/tool        srv/env/bin/tool                                       ``#!python`` replaced
    pkg-1.0.data/data/share/x.json   srv/env/share/x.json                                   verbatim
    pkg-1.0.data/headers/pkg.h       srv/env/include/site/python3.13/pkg/pkg.h              verbatim
    "run = pkg:main" (entry point)   srv/env/bin/run                                        generated
    pkg-1.0.dist-info/RECORD         srv/env/lib/.../site-packages/pkg-1.0.dist-info/RECORD rewritten

PyPA's ``installer`` is the model, and what the tests compare with byte for byte. The differences are deliberate:
everything in ``bin`` is executable (``installer`` leaves scripts that were zipped on Windows unusable), and a wheel
whose files do not all match its RECORD is refused, as the specification asks. ``__pycache__`` is left out by both.

Source: the binary distribution format (packaging.python.org), "Installing a wheel".
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.layers.content import content_size, read_content
from builder.layers.errors import LayerError
from builder.layers.layer import RECIPE, Entry
from builder.layers.record import SIGNATURES, checked_record, record_text
from builder.layers.scripts import PYTHON_SHEBANG, fix_shebang, parse_entry_points
from builder.layers.wheelfile import Wheel, WheelMetadata, metadata, open_wheel
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from builder.layers.members import Member

__all__ = ["InstallTarget", "Wheel", "WheelMetadata", "layer_key", "metadata", "open_wheel", "wheel_entries"]

INSTALLER = b"casabinder\n"
_OURS = ("INSTALLER", "REQUESTED", "direct_url.json")  # an installer writes these, a wheel has no say in them
_LARGEST_SCRIPT = 16 * 1024 * 1024


@dataclass(frozen=True)
class InstallTarget:
    """Where in an image wheels go: the environment's ``prefix`` (absolute) and its Python (``3.13``).

    ``bytecode`` is the identity of the interpreter that makes the layers' bytecode; "" for layers without.

    The directories are relative to the image's root, as entries' paths are; ``interpreter`` is for shebangs.
    """

    prefix: str = "/srv/env"
    python: str = "3.13"
    bytecode: str = ""

    def __post_init__(self) -> None:
        plain = posixpath.normpath(self.prefix) == self.prefix and not any(map(str.isspace, self.prefix))
        if not plain or not self.prefix.startswith("/") or not 1 < len(self.prefix) <= 100:
            raise ValueError(f"{self.prefix!r} is no path of an environment: absolute, without spaces, up to 100 long")

    @property
    def data(self) -> str:
        """The environment itself."""
        return self.prefix.removeprefix("/")

    @property
    def purelib(self) -> str:
        """The environment's ``site-packages``."""
        return f"{self.data}/lib/python{self.python}/site-packages"

    @property
    def platlib(self) -> str:
        """The same as :attr:`purelib`: an environment has one ``site-packages``."""
        return self.purelib

    @property
    def scripts(self) -> str:
        """The environment's ``bin``."""
        return f"{self.data}/bin"

    def headers(self, distribution: str) -> str:
        """Where the headers of one distribution go."""
        return f"{self.data}/include/site/python{self.python}/{distribution}"

    @property
    def interpreter(self) -> str:
        """The absolute path of the environment's Python."""
        return f"{self.prefix}/bin/python"


def layer_key(wheel_sha256: str, target: InstallTarget) -> str:
    """Return the key of a wheel's layer: a sha256 (hex) over all that decides the layer's bytes."""
    inputs = {"kind": "wheel", "sha256": wheel_sha256, "prefix": target.prefix, "python": target.python}
    if target.bytecode:
        inputs["bytecode"] = target.bytecode
    return hashlib.sha256(canonical_json({**inputs, "recipe": RECIPE})).hexdigest()


def wheel_entries(wheel: Wheel, target: InstallTarget) -> list[Entry]:
    """Return the files that installing ``wheel`` at ``target`` gives.

    Raises:
        LayerError: RECORD is missing, unreadable or does not list every file with a hash; entry points cannot be
            read; a ``.data`` directory is unknown; or two files would go to one place. Files that do not match their
            hash are found when the layer is written.
    """
    installed = [*_launchers(wheel, target), *_files(wheel, target)]
    installed.append(_installed(_Place("purelib", f"{wheel.dist_info}/INSTALLER", target.purelib), INSTALLER))
    record = _Place("purelib", f"{wheel.dist_info}/RECORD", target.purelib)
    rows = [(file.place, file.checksum, content_size(file.entry)) for file in installed]
    # The order of installer: by the path within the scheme, scripts before others of the same path.
    ordered = sorted([*rows, (record, "", None)], key=lambda row: row[0].inner)
    listed = ((posixpath.relpath(place.path, target.purelib), checksum, size) for place, checksum, size in ordered)
    entries = [*(file.entry for file in installed), Entry(record.path, "file", record_text(listed))]
    seen: set[str] = set()
    for entry in entries:
        if entry.path in seen:
            raise LayerError(f"{wheel.path.name} has two files for the place {entry.path!r}")
        seen.add(entry.path)
    return entries


@dataclass(frozen=True)
class _Place:
    """Where a file goes: the scheme, the path within the scheme, and the scheme's directory in the image."""

    scheme: str
    inner: str
    directory: str

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.inner}"


@dataclass(frozen=True)
class _Installed:
    place: _Place
    checksum: str
    entry: Entry


def _installed(place: _Place, text: bytes, mode: int = 0o644) -> _Installed:
    """A file whose content is made, or changed, here."""
    checksum = f"sha256:{hashlib.sha256(text).hexdigest()}"
    return _Installed(place, checksum, Entry(place.path, "file", text, mode))


def _launchers(wheel: Wheel, target: InstallTarget) -> list[_Installed]:
    if not any(member.name == f"{wheel.dist_info}/entry_points.txt" for member in wheel.members):
        return []
    points = parse_entry_points(wheel.read_text("entry_points.txt"), wheel.path.name)
    return [
        _installed(_Place("scripts", point.script, target.scripts), point.launcher(target.interpreter), 0o755)
        for point in points
    ]


def _files(wheel: Wheel, target: InstallTarget) -> list[_Installed]:
    checksums = checked_record(wheel.read_text("RECORD"), wheel.members, wheel.dist_info, wheel.path.name)
    generated = {f"{wheel.dist_info}/{name}" for name in (*_OURS, "RECORD")}
    signatures = {f"{wheel.dist_info}/{name}" for name in SIGNATURES}
    found = []
    for member in wheel.members:
        if member.name in generated or "__pycache__" in member.name.split("/")[:-1]:
            continue
        place = _place(wheel, member, target)
        mode = 0o755 if member.executable or place.scheme == "scripts" else 0o644
        if member.name in signatures:
            found.append(_installed(place, wheel.read(member.name), mode))
            continue
        checksum = checksums[member.name]
        entry = Entry(place.path, "file", member.content(checksum), mode)
        if place.scheme == "scripts" and wheel.starts_with(member, PYTHON_SHEBANG):
            if member.size > _LARGEST_SCRIPT:
                raise LayerError(f"{wheel.path.name}: the script {member.name!r} has more than 16 MiB")
            text = b"".join(read_content(replace(entry, path=member.name)))
            found.append(_installed(place, fix_shebang(text, target.interpreter), mode))
        else:
            found.append(_Installed(place, checksum, entry))
    return found


def _place(wheel: Wheel, member: Member, target: InstallTarget) -> _Place:
    """Return where a member goes: to ``site-packages``, or where its directory of ``*.data`` says."""
    top, _, rest = member.name.partition("/")
    named = "-".join(wheel.path.name.split("-")[:2])
    if top not in (f"{named}.data", wheel.dist_info.removesuffix(".dist-info") + ".data"):
        return _Place("purelib", member.name, target.purelib)
    scheme, _, inner = rest.partition("/")
    directories = {
        "purelib": target.purelib,
        "platlib": target.platlib,
        "scripts": target.scripts,
        "data": target.data,
        "headers": target.headers(wheel.distribution),
    }
    if scheme not in directories or not inner:
        raise LayerError(f"{wheel.path.name}: the file {member.name!r} is in no known directory of {top}")
    return _Place(scheme, inner, directories[scheme])
