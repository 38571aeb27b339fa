"""A facility as the builder sees it: where images go, the local cache, the package index, the base that was chosen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from builder.bounded import is_due, note_done
from builder.container.engine import ContainerLimits
from builder.locking.resolver import PackageIndex
from builder.repository.fetching import Fetching

if TYPE_CHECKING:
    from pathlib import Path

    from builder.attachments.signature import Signer
    from builder.layers.cache import LayerCache
    from builder.layers.layer import Compression
    from builder.package_pattern import PackagePattern
    from builder.seen_images import SeenImages
    from builder.shared_layers import SharedLayers
    from builder.sources.shelf import MadeWheels
    from builder.wheelhouse import Wheelhouse
    from registry_sync.store import Store


@dataclass(frozen=True)
class Facility:
    """Where a builder works: the store that images go to (``registry`` is its name, ``prefix`` comes before every
    repository), the local cache, the package index, and a directory for big temporary files (``None``: the cache).
    ``layer_cache_bytes`` bounds the layers in the cache, and as much again of wheels."""

    store: Store
    registry: str
    prefix: str
    cache: Path
    index: PackageIndex = field(default_factory=PackageIndex)
    containers: ContainerLimits = field(default_factory=ContainerLimits)
    fetching: Fetching = field(default_factory=Fetching)
    signer: Signer | None = None
    compression: Compression = "gzip"
    layer_cache_bytes: int = 50 * 10**9
    scratch: Path | None = None

    def repository(self, name: str) -> str:
        """Return a repository's full name below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    @cached_property
    def wheelhouse(self) -> Wheelhouse:
        """The wheels on disk."""
        from builder.wheelhouse import Wheelhouse

        return Wheelhouse(self.cache / "wheels", ca_bundle=self.index.ca_bundle, made=self.made_wheels)

    @cached_property
    def made_wheels(self) -> MadeWheels:
        """The wheels in the registry that were made from source."""
        from builder.sources.shelf import MadeWheels

        return MadeWheels(self.store, self.repository("wheels"))

    def make_room(self) -> None:
        """Bound what layers and wheels take in the cache, once an hour."""
        stamp = self.cache / "layers-bounded"
        if is_due(stamp, self.layer_cache_bytes):
            self.layer_cache.prune(self.layer_cache_bytes)
            self.wheelhouse.prune(self.layer_cache_bytes)
            note_done(stamp, self.layer_cache_bytes)

    @cached_property
    def layer_cache(self) -> LayerCache:
        """The layers on disk."""
        from builder.layers.cache import LayerCache

        return LayerCache(self.cache / "layers")

    @cached_property
    def shared_layers(self) -> SharedLayers:
        """The layers in the registry."""
        from builder.layers.cache import LayerCache
        from builder.shared_layers import SharedLayers

        repository = self.repository("layers")
        place = hashlib.sha256(f"{self.registry}/{repository}".encode()).hexdigest()[:32]
        return SharedLayers(self.store, repository, LayerCache(self.cache / "shared-layers" / place))

    @cached_property
    def seen_images(self) -> SeenImages:
        """The images that this machine has brought into the registry."""
        from builder.seen_images import SeenImages

        return SeenImages(self.store, self.registry, self.cache / "seen-images")


@dataclass(frozen=True)
class BaseChoice:
    """Which base to build on: its store (``None``: the facility's), the registry's name, repository, tag or digest."""

    registry: str
    repository: str
    reference: str
    store: Store | None = None

    def __str__(self) -> str:
        separator = "@" if ":" in self.reference else ":"
        return f"{self.registry}/{self.repository}{separator}{self.reference}"


@dataclass(frozen=True)
class BaseOffer:
    """A base that may be taken: its name in the catalogue (or its reference), its Python (``3.13``; ``""`` unknown).

    ``chosen_for`` are the packages that it is made for; with ``cuda``, a version, it is also for those that need CUDA.
    """

    name: str
    python: str
    choice: BaseChoice
    chosen_for: tuple[PackagePattern, ...] = ()
    cuda: str = ""

    @property
    def special(self) -> bool:
        """Whether it is not for everybody who asks for its Python."""
        return bool(self.chosen_for or self.cuda)


@dataclass(frozen=True)
class Bases:
    """The bases a build may take, the default first. With ``stated`` the user named the only one, and it is taken
    whatever the repository asks for."""

    offers: tuple[BaseOffer, ...]
    stated: bool = False

    @classmethod
    def only(cls, choice: BaseChoice) -> Bases:
        """Return the bases of a user who named one."""
        return cls((BaseOffer(str(choice), "", choice),), stated=True)
