"""Tells what takes the room in a base image: by layer, by package, and by kind of file.

A file belongs to the Python package whose RECORD in the same layer lists it (bytecode: to that of its source), else to
the Debian package whose list of files has it. It is of the first kind in :data:`KINDS` that its path fits. Nothing is
unpacked: the layers are read as streams, one after the other.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from base_images.image_files import ANALYSIS_PREFIX, SERVER_PREFIX
from base_images.layer_files import LayerFile, layer_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.base import Base

KINDS = {
    "bytecode": r"\.pyc$",
    "tests": r"/site-packages/.*\btests?/",
    "static libraries": r"\.a$",
    "headers": r"/include/|\.(h|hh|hpp|cuh|pxd)$",
    "type stubs": r"\.pyi$",
    "source maps": r"\.(js|css)\.map$",
    "libraries that wheels bring": r"\.libs/",
    "compiled modules and libraries": r"\.so(\.[0-9.]+)?$",
    "Python sources": r"\.py$",
    "notebook pages": r"/share/jupyter/|/static/|/(lab|nb)extension/",
    "locales, fonts, time zones": r"/(locale|locales|i18n|fonts?|zoneinfo)/",
}
OTHER = "other files"
DEBIAN = "Debian"
NOBODY = "(of no package)"

_RECORD = re.compile(r"(?P<site>.*/site-packages)/(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/RECORD")
_DPKG = re.compile(r"var/lib/dpkg/info/(?P<name>[^/:]+)(:[a-z0-9]+)?\.list")
_BYTECODE = re.compile(r"(?P<directory>.*/)__pycache__/(?P<name>[^/]+)\.cpython-\d+(\.opt-\d)?\.pyc")
_LIBRARY = re.compile(r"(?P<name>lib[A-Za-z0-9_+]+?)(-[0-9a-f]{6,})*\.so[.0-9]*")


@dataclass
class Size:
    """Files and the bytes they take; ``symbols`` are those of the unpacked that are symbols and debug information."""

    files: int = 0
    compressed: int = 0
    unpacked: int = 0
    symbols: int = 0

    def add(self, file: LayerFile) -> None:
        """Count one more file."""
        self.files += 1
        self.compressed += file.compressed
        self.unpacked += file.size
        self.symbols += file.symbols

    def include(self, other: Size) -> None:
        """Count what another one has."""
        self.files += other.files
        self.compressed += other.compressed
        self.unpacked += other.unpacked
        self.symbols += other.symbols


@dataclass(frozen=True)
class BaseSizes:
    """What a base consists of. Packages are named by where they are and what they are: ``/srv/env numpy 2.4.6``.

    ``copies`` are shared libraries that several wheels of one environment bring, each its own, named as packages are:
    their paths and unpacked sizes. ``twice`` is what packages take that both environments have in the same version.
    """

    name: str
    digest: str
    total: Size
    layers: tuple[tuple[str, Size], ...]
    packages: Mapping[str, Size]
    kinds: Mapping[str, Size]
    copies: Mapping[str, Mapping[str, int]]
    twice: Size


@dataclass
class _Count:
    total: Size = field(default_factory=Size)
    packages: defaultdict[str, Size] = field(default_factory=lambda: defaultdict(Size))
    kinds: defaultdict[str, Size] = field(default_factory=lambda: defaultdict(Size))
    libraries: defaultdict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))


def measure_base(base: Base) -> BaseSizes:
    """Measure a base in its registry; raises :class:`CasabinderError` if a layer can't be read."""
    count = _Count()
    layers = []
    history = [entry for entry in base.config.get("history", ()) if not entry.get("empty_layer")]
    for number, layer in enumerate(base.manifest.layers):
        with base.store.open_blob(base.repository, layer.digest) as chunks:
            files = list(layer_files(layer, chunks, _is_list))
        size = _count_layer(files, count)
        size.compressed = layer.size
        made_by = history[number].get("created_by", "") if number < len(history) else ""
        layers.append((made_by.removeprefix("casabinder: ") or layer.digest, size))
        count.total.include(size)
    return BaseSizes(
        base.inventory.name,
        base.digest,
        count.total,
        tuple(layers),
        _largest_first(count.packages),
        _largest_first(count.kinds),
        {name: paths for name, paths in sorted(count.libraries.items()) if len(paths) > 1},
        _twice(count.packages),
    )


def _is_list(path: str) -> bool:
    return bool(_RECORD.fullmatch(path) or _DPKG.fullmatch(path))


def _count_layer(files: list[LayerFile], count: _Count) -> Size:
    owners = _owners(files)
    size = Size()
    for file in files:
        size.add(file)
        count.packages[owners.get(_source(file.path), _nobody(file.path))].add(file)
        count.kinds[kind_of(file.path, debian=not file.path.startswith("srv/"))].add(file)
        library = _LIBRARY.fullmatch(posixpath.basename(file.path))
        if library and ".libs/" in file.path:
            count.libraries[f"{_place(file.path)} {library['name']}"][f"/{file.path}"] = file.size
    return size


def kind_of(path: str, *, debian: bool = False) -> str:
    """Return the kind of file that a path is of."""
    if debian:
        return DEBIAN
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, path)), OTHER)


def _owners(files: Iterable[LayerFile]) -> dict[str, str]:
    """Return which package each path of a layer belongs to, where a list in the layer says it."""
    owners = {}
    for file in files:
        if record := _RECORD.fullmatch(file.path):
            place = _place(file.path)
            for row in csv.reader(io.StringIO(file.text.decode("utf-8", "replace"))):
                path = posixpath.normpath(posixpath.join(record["site"], row[0])) if row else ""
                owners[path] = f"{place} {record['name']} {record['version']}"
        elif package := _DPKG.fullmatch(file.path):
            for line in file.text.decode("utf-8", "replace").splitlines():
                path = re.sub(r"^/(bin|sbin|lib|lib64)/", r"/usr/\1/", line).strip("/")
                owners[path] = f"{DEBIAN} {package['name']}"
    return owners


def _source(path: str) -> str:
    """Return the path that lists have for a file: that of its source for bytecode."""
    bytecode = _BYTECODE.fullmatch(path)
    return f"{bytecode['directory']}{bytecode['name']}.py" if bytecode else path


def _place(path: str) -> str:
    for prefix in (ANALYSIS_PREFIX, SERVER_PREFIX):
        if f"/{path}".startswith(f"{prefix}/"):
            return prefix
    return DEBIAN


def _nobody(path: str) -> str:
    return f"{_place(path)} {NOBODY}"


def _twice(packages: Mapping[str, Size]) -> Size:
    twice = Size()
    for name, size in packages.items():
        other = name.replace(SERVER_PREFIX, ANALYSIS_PREFIX)
        if other != name and other in packages and not other.endswith(NOBODY):
            twice.include(size)
    return twice


def _largest_first(sizes: Mapping[str, Size]) -> dict[str, Size]:
    return dict(sorted(sizes.items(), key=lambda item: (-item[1].compressed, item[0])))
