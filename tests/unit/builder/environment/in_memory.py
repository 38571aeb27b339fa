"""A repository's files in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.environment.detect import detect_files
from builder.environment.files import FILE_LIMIT

if TYPE_CHECKING:
    from builder.environment.spec import EnvironmentSpec


class MemoryFiles:
    """Files by path, as :class:`builder.environment.files.Files`."""

    def __init__(self, files: dict[str, str | bytes]) -> None:
        self._files = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}

    def read(self, path: str, limit: int = FILE_LIMIT) -> bytes | None:
        return self._files.get(path)

    def names(self, directory: str) -> set[str]:
        prefix = f"{directory}/" if directory else ""
        return {path[len(prefix) :].split("/")[0] for path in self._files if path.startswith(prefix)}

    def has_directory(self, path: str) -> bool:
        return any(known.startswith(f"{path}/") for known in self._files)


def detected(files: dict[str, str | bytes], root: str = "") -> EnvironmentSpec:
    return detect_files(MemoryFiles(files), root)


def requirements_of(spec: EnvironmentSpec) -> list[str]:
    return [str(item.requirement) for item in spec.requirements]
