"""Builds a repository's own ``Dockerfile`` as it is, with the engine's builder held to the facility's limits.

The engine's classic builder runs every ``RUN`` in a container with a limit of memory and processors; its BuildKit
accepts the same options and ignores them (see :mod:`builder.container.step`). So the classic one is used, and what
needs BuildKit (``RUN --mount``, here-documents) is refused with a sentence. The context is the git tree as a tar on
standard input: no file outside of it can be sent.

The classic builder has no limit of processes but ``RLIMIT_NPROC``, which counts all that the machine runs under the
same user id: everybody's notebook servers. So there is none, and a fork bomb ends at the limit of memory or of time.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.container.engine import EngineError, docker, docker_lines, explain_pull
from builder.container.step import StepError, cpus, labels, remove_leftovers, require_engine
from builder.escapes import without_colours
from builder.layers.archive import write_layer
from builder.layers.tree import tree_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.container.engine import ContainerLimits
    from builder.layers.layer import Entry
    from builder.repository.tree import Tree

BUILD_ARGUMENTS = ("NB_USER=jovyan", "NB_UID=1000")
"""What repo2docker gives to a Dockerfile."""
_ARROW = re.compile(r" ---> ([0-9a-f]{12,64})")
_STEP = re.compile(r"Step \d+/\d+ : (.*)")
_ROOT = "context"
_PERIOD = 100_000


@contextlib.contextmanager
def built_image(tree: Tree, path: str, allowed: ContainerLimits, say: Callable[[str], None]) -> Iterator[str]:
    """Build the ``Dockerfile`` at ``path`` of ``tree`` and hand out the id of the image, which is removed afterwards.

    Raises :class:`EngineError` without an engine, :class:`StepError` when the Dockerfile can't be built.
    """
    require_engine(path, allowed)
    remove_leftovers()
    below = tree.commit.spec.subdirectory
    with tempfile.TemporaryDirectory(prefix="casabinder-dockerfile-") as scratch:
        context, identity = Path(scratch) / "context.tar.gz", Path(scratch) / "id"
        with context.open("wb") as sink:
            write_layer(context_entries(tree, below), sink)
        made: list[str] = []
        command = _command(path.removeprefix(f"{below}/") if below else path, identity, allowed)
        try:
            _build(command, context, path, allowed, made, say)
            made.append(identity.read_text().strip())
            yield made[-1]
        finally:
            for image in reversed(made):
                with contextlib.suppress(EngineError):
                    docker("rmi", image)


def context_entries(tree: Tree, below: str) -> list[Entry]:
    """Return the files of a tree (those ``below`` a directory of it) as a build context."""
    start = f"{_ROOT}/{below}/" if below else f"{_ROOT}/"
    found = tree_entries(tree.git_dir, tree.tree_id, _ROOT)
    return [replace(entry, path=entry.path.removeprefix(start)) for entry in found if entry.path.startswith(start)]


def _command(path: str, identity: Path, allowed: ContainerLimits) -> list[str]:
    return [
        "build",
        "--force-rm",
        "--pull",  # a tag means what the registry says, not what this engine happened to keep
        f"--file={path}",
        f"--iidfile={identity}",
        *labels(allowed),
        f"--memory={allowed.memory}",
        f"--memory-swap={allowed.memory}",
        f"--cpu-period={_PERIOD}",
        f"--cpu-quota={cpus(allowed) * _PERIOD:.0f}",
        f"--network={allowed.network}",
        *(f"--build-arg={argument}" for argument in BUILD_ARGUMENTS),
        "-",
    ]


def _build(
    command: list[str],
    context: Path,
    path: str,
    allowed: ContainerLimits,
    made: list[str],
    say: Callable[[str], None],
) -> None:
    last: deque[str] = deque(maxlen=20)
    step, own = "", False
    try:
        with context.open("rb") as source:
            for written in docker_lines(
                *command, stdin=source, environment={"DOCKER_BUILDKIT": "0"}, seconds=allowed.seconds
            ):
                line = without_colours(written)[:500]
                if found := _STEP.fullmatch(line):
                    step = found[1]
                    own = not step.upper().startswith("FROM ")
                elif line == " ---> Using cache":
                    own = False  # somebody else's, who may be about to use it
                elif (arrow := _ARROW.fullmatch(line)) and own:
                    made.append(arrow[1])
                last.append(line)
                say(line)
    except TimeoutError as error:
        raise StepError(
            f"{path} was still being built after {allowed.seconds:.0f} s, which is as long as this facility allows"
        ) from error
    except EngineError as error:
        said = "\n".join(last)
        raise StepError(why_failed(path, step, said or error.detail, allowed), said) from error


def why_failed(path: str, step: str, said: str, allowed: ContainerLimits) -> str:
    """Return one sentence for why a Dockerfile was not built: ``step`` was the last one begun."""
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "the engine did not say why")
    last = last.removeprefix("Error response from daemon: ")
    if "requires BuildKit" in last:
        return f"{path}: {step}: this needs BuildKit, which can't be held to limits here; write it without"
    if step.upper().startswith("FROM ") and "returned a non-zero code" not in last:
        image = step.split()[-1 if " AS " not in step.upper() else 1]
        if re.search(r"manifest unknown|not found", last):
            return f"{path}: there is no image {image}; check its name and tag"
        return f"{path}: {explain_pull(last, image)}"
    code = re.search(r"returned a non-zero code: (\d+)", last)
    if code and code[1] == "137":
        return (
            f"{path}: {step[:200]}: it was killed, most likely because it needed more than the "
            f"{allowed.memory / 1e6:.0f} MB of memory that this facility allows while an image is built"
        )
    if code:
        engines = (" --->", "Removing", "Step ")
        lines = [line for line in said.splitlines()[:-1] if line.strip() and not line.startswith(engines)]
        return f"{path}: {step[:200]}: failed with exit code {code[1]}: {lines[-1] if lines else 'it did not say why'}"
    return f"{path}: {step[:200]}: {last}" if step else f"{path}: {last}"
