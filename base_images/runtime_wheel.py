"""The wheel of ``casabinder_runtime``, zipped from its sources the same way on every machine.

No build tool runs: the package is plain Python, so its wheel is its files, its metadata (read from its
``pyproject.toml``) and a RECORD. Files are stored in order of their names with constant times and modes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tomllib
import zipfile
from pathlib import Path

from builder.locking.pylock import LockedPackage
from registry_sync.files import write_atomically

RUNTIME = Path(__file__).parent / "runtime"
_TIME = (1980, 1, 1, 0, 0, 0)


def build_runtime_wheel(directory: Path, source: Path = RUNTIME) -> tuple[LockedPackage, Path]:
    """Write the wheel below ``directory`` (by its hash) and return it as a locked package with its path."""
    with (source / "pyproject.toml").open("rb") as file:
        configuration = tomllib.load(file)
    project = configuration["project"]
    data = configuration["tool"]["hatch"]["build"]["targets"]["wheel"].get("shared-data", {})
    name = project["name"].replace("-", "_")
    stem = f"{name}-{project['version']}"
    members = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted((source / name).rglob("*"))
        if path.is_file() and path.suffix in (".py", ".typed", ".json", ".yaml", ".html", ".css")
    }
    for origin, destination in data.items():
        members[f"{stem}.data/data/{destination}"] = (source / origin).read_bytes()
    members[f"{stem}.dist-info/METADATA"] = _metadata(project).encode()
    members[f"{stem}.dist-info/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: casabinder\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = f"{stem}.dist-info/RECORD"
    members[record] = b"".join(f"{path},{_hash(text)},{len(text)}\n".encode() for path, text in sorted(members.items()))
    members[record] += f"{record},,\n".encode()

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for path, text in sorted(members.items()):
            info = zipfile.ZipInfo(path, _TIME)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            zipped.writestr(info, text)
    content = archive.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    filename = f"{stem}-py3-none-any.whl"
    path = directory / sha256[:2] / sha256 / filename
    if not path.exists():
        write_atomically(path, content)
    return LockedPackage(project["name"], project["version"], filename, sha256, size=len(content)), path


def _metadata(project: dict[str, object]) -> str:
    extras = project.get("optional-dependencies")
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"License-Expression: {project['license']}",
        f"Requires-Python: {project['requires-python']}",
    ]
    for extra, requirements in sorted(extras.items() if isinstance(extras, dict) else ()):
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {requirement}; extra == '{extra}'" for requirement in requirements]
    return "\n".join(lines) + "\n"


def _hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
