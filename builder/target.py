"""The Python platform that an image offers: what decides which wheel fits and which marker is true.

It is data that the base image states of itself (its interpreter's version, its C library's version, its machine), never
what the builder happens to run on: the same lock comes out on any builder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from packaging.tags import Tag, compatible_tags, cpython_tags

if TYPE_CHECKING:
    from collections.abc import Set

_UV_NEWEST_MANYLINUX = 40  # `uv pip compile --python-platform` knows manylinux_2_17 and 2_28 to 2_40
_UV_KNOWN_MANYLINUX = (17, 28, *range(31, _UV_NEWEST_MANYLINUX + 1))


@dataclass(frozen=True)
class PythonTarget:
    """CPython on glibc Linux: ``python`` is ``X.Y``, ``python_full`` is ``X.Y.Z``, ``glibc`` is ``X.Y``."""

    python: str
    python_full: str
    glibc: str
    machine: str = "x86_64"

    @property
    def platform(self) -> str:
        """The platform in OCI's words."""
        return {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[self.machine]

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """Compatible wheel tags, best first (packaging's order; PEP 425, PEP 600)."""
        version = tuple(int(part) for part in self.python.split("."))
        minor = int(self.glibc.split(".")[1])
        platforms = [f"manylinux_2_{m}_{self.machine}" for m in range(minor, 16, -1)]
        platforms += [f"manylinux2014_{self.machine}"]
        platforms += [f"manylinux_2_{m}_{self.machine}" for m in range(16, 4, -1)]
        platforms += [f"manylinux2010_{self.machine}", f"manylinux1_{self.machine}", f"linux_{self.machine}"]
        interpreter = "cp" + self.python.replace(".", "")
        return (
            *cpython_tags(version, [interpreter], platforms),
            *compatible_tags(version, interpreter, platforms),
        )

    @cached_property
    def tag_rank(self) -> dict[Tag, int]:
        """The position of each tag in :attr:`tags`; the lower, the better the fit."""
        return {tag: rank for rank, tag in reversed(list(enumerate(self.tags)))}

    @property
    def markers(self) -> dict[str, str | Set[str]]:
        """The environment that PEP 508 markers are evaluated in."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python_full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python_full,
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def uv_platform(self) -> str:
        """The nearest platform name that uv knows and that is not newer than this one."""
        minor = int(self.glibc.split(".")[1])
        known = max(m for m in _UV_KNOWN_MANYLINUX if m <= max(minor, 17))
        return f"{self.machine}-manylinux_2_{known}"
