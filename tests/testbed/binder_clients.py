"""The clients of BinderHub that people use, from npm: ``@jupyterhub/binderhub-client`` in node, Thebe for a browser.

What is installed is what ``tests/clients`` names by version and hash; it is kept in the cache. Of ``thebe-core`` only
the bundle that web pages load is taken: its dependencies, which are in the bundle, would be a thousand packages.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from launcher.site_config import cache_directory

CLIENTS = Path(__file__).parents[1] / "clients"
_BUNDLE = "package/dist/lib/"


def binderhub_client() -> Path:
    """Return a directory with the client, its dependencies and ``build.mjs``."""
    lock = (CLIENTS / "package-lock.json").read_bytes()
    directory = _kept("binderhub-client", lock)
    shutil.copytree(CLIENTS, directory, dirs_exist_ok=True)
    if not (directory / "node_modules").is_dir():
        _npm(directory, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return directory


def ask_for_build(endpoint: str, spec: str, options: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Build (and launch) with BinderHub's client and return the messages that it gave."""
    asked = {"endpoint": endpoint, "spec": spec, "options": options or {}}
    done = subprocess.run(
        ["node", "build.mjs"],
        cwd=binderhub_client(),
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    # The client itself logs errors of the stream to standard output; they are not JSON.
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def thebe_page() -> Path:
    """Return a directory with ``thebe.html`` and the bundle that it loads."""
    pinned = json.loads((CLIENTS / "thebe_core.json").read_text(encoding="utf-8"))
    directory = _kept("thebe-core", pinned["integrity"].encode())
    if not (directory / "thebe-core.min.js").exists():
        name = f"thebe-core@{pinned['version']}"
        [packed] = json.loads(_npm(directory, "pack", "--json", name))
        assert packed["integrity"] == pinned["integrity"], name
        with tarfile.open(directory / packed["filename"]) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name.startswith(_BUNDLE) else None
                if content is not None:
                    (directory / Path(member.name).name).write_bytes(content.read())
    shutil.copy(CLIENTS / "thebe.html", directory)
    return directory


def _kept(name: str, identity: bytes) -> Path:
    directory = cache_directory() / "tests" / f"{name}-{hashlib.sha256(identity).hexdigest()[:12]}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _npm(directory: Path, *arguments: str) -> str:
    return subprocess.run(
        ["npm", *arguments], cwd=directory, capture_output=True, text=True, timeout=300, check=True
    ).stdout
