"""Finds the artifacts that pins stand for: lock formats without addresses name versions and hashes, the index has both.

uv is asked for exactly the pinned versions, without their dependencies. A version whose hashes name no wheel that fits
here, but a source distribution, becomes a source. What the index has no more is an error: the lock has rotted.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename

from builder.environment.spec import SourceRequirement
from builder.locking.closure import applies
from builder.locking.pylock import LockedPackage, LockError, choose_wheel, entry_name, marker_holds, read_entries
from builder.locking.resolver import RefusedError, resolve
from builder.locking.stated import LockContents

if TYPE_CHECKING:
    from builder.environment.spec import StatedLock, StatedRequirement
    from builder.facility import Facility
    from builder.locking.memory import LockMemory
    from builder.target import PythonTarget

_REQUIRED = re.compile(r"you require ([A-Za-z0-9][A-Za-z0-9._-]*)==")


def address_pins(
    stated: StatedLock,
    target: PythonTarget,
    facility: Facility,
    base_name: str,
    memory: LockMemory,
) -> LockContents:
    """Return wheels and sources for the pins of a lock; raise :class:`LockError` for one that has rotted."""
    pins = _applying(stated, target)
    allowed = {name: frozenset(map(_hex, pin.hashes)) for name, pin in pins.items() if pin.hashes}
    question: dict[str, object] = {
        "pins": sorted([name, str(pin.requirement.specifier), *sorted(pin.hashes)] for name, pin in pins.items()),
        "platform": [target.python_full, target.glibc, target.machine],
        "index": facility.index.url,
    }
    remembered = memory.recall(question)
    if remembered is not None:
        return LockContents(tuple(remembered), (), allowed)
    sources: dict[str, SourceRequirement] = {}
    asked = dict(pins)
    entries: list[dict[str, object]] = []
    while asked:
        try:
            text = resolve(
                [("pins.in", "".join(f"{name}{pin.requirement.specifier}\n" for name, pin in asked.items()))],
                target,
                facility.index,
                dependencies=False,
            )
        except RefusedError as refused:
            wanting = [name for name in map(canonicalize_name, refused.without_wheel) if name in asked]
            if not wanting:
                raise _rotted(refused, stated, asked, target, base_name) from refused
            for missing in wanting:
                sources[missing] = _sdist(pins[missing], missing, stated, facility, base_name, target)
                del asked[missing]
            continue
        entries = [
            entry for entry in read_entries(text, stated.file) if marker_holds(entry, target.markers, stated.file)
        ]
        break
    packages: list[LockedPackage] = []
    for entry in entries:
        name = entry_name(entry, stated.file)
        chosen = choose_wheel(entry, target, stated.file, allowed.get(name))
        if chosen is not None:
            packages.append(chosen)
        else:
            sources[name] = _sdist(pins[name], name, stated, facility, base_name, target)
    if not sources:
        memory.keep(question, packages)
    return LockContents(tuple(sorted(packages)), tuple(sources[name] for name in sorted(sources)), allowed)


def _applying(stated: StatedLock, target: PythonTarget) -> dict[str, StatedRequirement]:
    pins: dict[str, StatedRequirement] = {}
    for pin in stated.pins:
        if not applies(pin.requirement, target):
            continue
        name = canonicalize_name(pin.requirement.name)
        if name in pins and pins[name].requirement.specifier != pin.requirement.specifier:
            raise LockError(f"{stated.file}: {name} is there in two versions for this platform; lock it again")
        pins[name] = pin
    return pins


def _hex(text: str) -> str:
    return text.removeprefix("sha256:").lower()


def _rotted(
    refused: RefusedError, stated: StatedLock, asked: dict[str, StatedRequirement], target: PythonTarget, base_name: str
) -> LockError:
    found = _REQUIRED.search(str(refused))
    name = canonicalize_name(found[1]) if found else ""
    if name not in asked:
        return LockError(f"{stated.file} can't be honoured: {refused}")
    what = f"{stated.file}: {name}{asked[name].requirement.specifier}"
    if re.search(r"no version of|not found in the package|is available and", str(refused)):
        return LockError(f"{what} is no longer in the package index: the lock has rotted; lock {name} again")
    return LockError(
        f"{what} has no wheel for Python {target.python} of the base {base_name}, and no source either: the lock is "
        f"not for this Python, or has rotted; lock {name} again, or choose another base with --base"
    )


def _sdist(
    pin: StatedRequirement,
    name: str,
    stated: StatedLock,
    facility: Facility,
    base_name: str,
    target: PythonTarget,
) -> SourceRequirement:
    """Return the source distribution of a pinned version that the index offers and the lock allows."""
    from builder.sources.default_index import default_index
    from builder.sources.download import Downloader
    from builder.sources.index_page import ACCEPT, parse_page

    index = facility.index
    rules = replace(facility.fetching, ca_bundle=index.ca_bundle)
    downloader = Downloader(facility.cache / "sources", rules).trusting
    page = downloader.page(f"{(index.url or default_index()).rstrip('/')}/{name}/", ACCEPT)
    allowed = set(map(_hex, pin.hashes))
    for file in parse_page(*page) if page else []:
        try:
            project, version = parse_sdist_filename(file.filename)
        except InvalidSdistFilename:
            continue
        fits = project == name and pin.requirement.specifier.contains(version, prereleases=True)
        if fits and file.sha256 and (not allowed or file.sha256 in allowed):
            return SourceRequirement("archive", pin.source, url=file.url, name=name, hashes=(file.sha256,))
    raise LockError(
        f"{stated.file}: none of the hashes of {name}{pin.requirement.specifier} is that of a wheel for Python "
        f"{target.python} of the base {base_name}, or of a source, that the package index has: the lock has rotted, or "
        f"is for another Python; lock {name} again"
    )
