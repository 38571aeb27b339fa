"""Decides what an image consists of before anything is fetched or made: names, layers, and what is whited out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from builder.cuda import runtime_labels
from builder.editables import editable_entries, editables_identity, without_editables
from builder.identity import container_inputs, env_id, image_id
from builder.image import MOST_LAYERS
from builder.layers.layer import RECIPE, Compression, Entry, compressed_key
from builder.layers.tree import tree_entries
from builder.layers.whiteout import whiteouts
from builder.wheel_layers import PlannedLayer, plan_wheel_layers
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.base import Base
    from builder.environment.spec import EnvironmentSpec
    from builder.locking.lock import Lock
    from builder.repository.tree import Tree

MOST_WHEEL_LAYERS = 40
_OTHER_LAYERS = 8  # whiteouts, R or Julia, apt.txt, editables, content, env.json, their packages, postBuild
REPO_DIR = "srv/repo"
IDENTITY_FILE = "etc/casabinder/env.json"


@dataclass(frozen=True)
class EntryLayer:
    """A layer of entries that are made when it is needed, with its key and a text for people."""

    key: str
    what: str
    entries: Callable[[], Sequence[Entry]]


_Planned = TypeVar("_Planned", EntryLayer, PlannedLayer)


@dataclass(frozen=True)
class BuildPlan:
    """Everything that decides an image: base, lock, tree; and the layers on top of the base, bottom first.

    Wheel layers lie between ``below`` (whiteouts) and ``above`` (editables, content, env.json).
    """

    base: Base
    lock: Lock
    tree: Tree
    env_id: str
    image_id: str
    below: tuple[EntryLayer, ...]
    wheels: tuple[PlannedLayer, ...]
    above: tuple[EntryLayer, ...]
    compression: Compression = "gzip"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the image has besides the base's and those of its names."""
        return runtime_labels(self.lock.layered)

    @property
    def whats(self) -> list[str]:
        """A text for people for every layer above the base, bottom first."""
        wheels = [layer.what for layer in self.wheels]
        return [*(layer.what for layer in self.below), *wheels, *(layer.what for layer in self.above)]


def plan(base: Base, lock: Lock, spec: EnvironmentSpec, tree: Tree, compression: Compression = "gzip") -> BuildPlan:
    """Return the plan of an image. The sizes of ``lock.layered`` must be known, since they decide the grouping."""
    target = base.inventory.target
    lock = without_editables(lock, spec.editables, base.inventory.analysis.by_name)
    own = [entry for project in spec.editables for entry in editable_entries(project, base.install_target, REPO_DIR)]
    container = container_inputs(spec.container, tree.tree_id)
    labels = runtime_labels(lock.layered)
    environment = env_id(base.digest, target.platform, lock.packages, editables_identity(own), container, labels)
    image = image_id(environment, tree.tree_id, compression)
    budget = max(1, min(MOST_WHEEL_LAYERS, MOST_LAYERS - _OTHER_LAYERS - len(base.manifest.layers)))
    below = []
    if lock.gone:
        gone = [package.name for package in lock.gone]
        inputs = {"kind": "whiteout", "base": base.digest, "gone": [package.identity() for package in lock.gone]}
        what = "removed of the base: " + ", ".join(map(str, lock.gone))
        below.append(EntryLayer(_key(inputs), what, lambda: _whiteouts(base, gone)))
    above = []
    if own:
        inputs = {"kind": "editables", "files": editables_identity(own)}
        what = "editable: " + ", ".join(f"{project.name} {project.version}" for project in spec.editables)
        above.append(EntryLayer(_key(inputs), what, lambda: own))
    content = {"kind": "tree", "tree": tree.tree_id, "destination": REPO_DIR, "owner": [1000, 1000]}
    above.append(EntryLayer(_key(content), "repository", lambda: tree_entries(tree.git_dir, tree.tree_id, REPO_DIR)))
    identity = {
        "env_id": environment,
        "image_id": image,
        "tree": tree.tree_id,
        "base": {"name": base.inventory.name, "digest": base.digest},
        "python": target.python_full,
        "lock_sha256": lock.sha256,
        "platform": target.platform,
        "recipe": RECIPE,
    }
    described = canonical_json(identity)
    inputs = {"kind": "identity", "text": described.decode()}
    above.append(EntryLayer(_key(inputs), "env.json", lambda: [Entry(IDENTITY_FILE, "file", described)]))
    return BuildPlan(
        base=base,
        lock=lock,
        tree=tree,
        env_id=environment,
        image_id=image,
        below=_keyed(below, compression),
        wheels=_keyed(plan_wheel_layers(lock.layered, base.install_target, budget), compression),
        above=_keyed(above, compression),
        compression=compression,
    )


def _keyed(layers: Sequence[_Planned], compression: Compression) -> tuple[_Planned, ...]:
    return tuple(replace(layer, key=compressed_key(layer.key, compression)) for layer in layers)


def _whiteouts(base: Base, gone: Sequence[str]) -> list[Entry]:
    removed = [path for name in gone for path in base.files[name]]
    kept = [path for name, paths in base.files.items() if name not in gone for path in paths]
    return whiteouts(removed, kept, base.install_target.data)


def _key(inputs: object) -> str:
    return sha256_digest(canonical_json({"recipe": RECIPE, "inputs": inputs}))[7:]
