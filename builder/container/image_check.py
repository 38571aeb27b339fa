"""Looks into an image that somebody else's ``Dockerfile`` made: can a notebook server start in it, can workers?

One container of the image is started without a network and asked; what it says is compared with what is needed.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.container.engine import EngineError, docker, docker_lines
from builder.container.step import StepError, labels, limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.container.engine import ContainerLimits

_SECONDS = 120.0
_COMMANDS = ("jupyterhub-singleuser", "jupyter-lab", "jupyter-server")
_MODULES = ("ipykernel", "dask", "distributed", "casabinder_runtime")
_PROGRAM = f"""
import importlib, platform
print("python=" + ".".join(platform.python_version_tuple()[:2]))
for name in {_MODULES!r}:
    try:
        importlib.import_module(name)
        print("module=" + name)
    except Exception:
        pass
"""
_SCRIPT = f"""
while read -r key value rest; do if [ "$key" = Uid: ]; then echo "uid=$value"; fi; done < /proc/self/status
if [ -n "$HOME" ] && [ -w "$HOME" ]; then echo home=writable; fi
for name in {" ".join(_COMMANDS)}; do if command -v "$name" >/dev/null 2>&1; then echo "command=$name"; fi; done
for name in python3 python; do
  if command -v "$name" >/dev/null 2>&1; then "$name" -c "$CASABINDER_PROGRAM"; break; fi
done
exit 0
"""


@dataclass(frozen=True)
class ImageFacts:
    """What an image says of itself: its user's number, whether that user's home can be written to, the notebook
    server's commands, the Python that kernels would have (``3.13``; empty: none), and the modules that it imports."""

    uid: str = ""
    home: bool = False
    commands: frozenset[str] = frozenset()
    python: str = ""
    modules: frozenset[str] = frozenset()


def look_into(image: str, path: str, allowed: ContainerLimits) -> ImageFacts:
    """Return the facts of an image that the engine has; ``path`` is the Dockerfile, for the error.

    Raises :class:`StepError` when not even a shell starts in it.
    """
    name = f"casabinder-check-{uuid.uuid4().hex}"
    options = [option for option in limits(allowed) if option not in ("--network", "none")]
    command = ["run", f"--name={name}", *labels(allowed), *options, "--network=none", "--cap-drop=ALL"]
    command += [f"--env=CASABINDER_PROGRAM={_PROGRAM}", "--entrypoint=/bin/sh", image, "-c", _SCRIPT]
    lines = []
    try:
        for line in docker_lines(*command, seconds=_SECONDS):
            lines.append(line[:500])
            del lines[:-1000]
    except TimeoutError as error:
        raise StepError(f"{path}: importing ipykernel and dask in the image took more than {_SECONDS:.0f} s") from error
    except EngineError as error:
        raise StepError(
            f"{path}: the image can't run a shell, so no notebook server starts in it: build it from an image with "
            "/bin/sh, Python and jupyterhub"
        ) from error
    finally:
        with contextlib.suppress(EngineError):
            docker("rm", "--force", "--volumes", name)
    return read_facts(lines)


def read_facts(lines: Iterable[str]) -> ImageFacts:
    """Read what the container said; lines that are not understood (warnings of the image's programs) are left."""
    found: dict[str, set[str]] = {}
    for line in lines:
        key, _, value = line.strip().partition("=")
        found.setdefault(key, set()).add(value)
    return ImageFacts(
        uid=max(found.get("uid", {""})),
        home="writable" in found.get("home", ()),
        commands=frozenset(found.get("command", ())) & set(_COMMANDS),
        python=max(found.get("python", {""}))[:10],
        modules=frozenset(found.get("module", ())) & set(_MODULES),
    )


def check_image(facts: ImageFacts, path: str) -> list[str]:
    """Return sentences on what the image lacks but can do without.

    Raises :class:`StepError` when no notebook server can start in it.
    """
    if not facts.commands:
        raise StepError(
            f"{path}: no notebook server can start in the image: install jupyterhub and jupyterlab in it, so that "
            "jupyterhub-singleuser is on its PATH"
        )
    notes = []
    if "jupyterhub-singleuser" not in facts.commands:
        notes.append("JupyterHub can't start it without jupyterhub-singleuser: install jupyterhub")
    if not facts.python or "ipykernel" not in facts.modules:
        notes.append("it has no Python kernel: install ipykernel for the python3 on its PATH")
    if facts.uid != "1000":
        notes.append(f"it runs as user {facts.uid or 'unknown'} and will be run as user 1000: end it with USER 1000")
    if not facts.home:
        notes.append("its user can't write to HOME, which notebook servers need: create one and set ENV HOME")
    lacking = [name for name in _MODULES[1:] if name not in facts.modules]
    if lacking:
        notes.append(f"Dask workers are not offered, because python3 can't import {', '.join(lacking)}")
    return [f"{path}: {note}" for note in notes]


def offers_workers(facts: ImageFacts) -> bool:
    """Return whether Dask workers can be started from the image."""
    return facts.modules.issuperset(_MODULES[1:])
