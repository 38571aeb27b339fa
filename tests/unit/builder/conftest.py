"""A facility in a temporary directory: a layout store with a tiny base, a package index, and a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from builder.build import build
from builder.facility import BaseChoice, Bases, Facility
from builder.locking.resolver import PackageIndex
from builder.repository.spec import RepoSpec
from registry_sync.layout import LayoutStore
from tests.testbed.git_repository import commit_files
from tests.testbed.packages import BuiltWheel, Index, built_wheel, running_index
from tests.testbed.tiny_base import REPOSITORY, tiny_base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.base import Base
    from builder.record import ImageRecord

CORE = built_wheel("core", "2.0", {"core/__init__.py": b"", "core/data/old.txt": b"old"})
PLOTS = built_wheel("plots", "3.0", requires=["core>=1", "fonts"])
FONTS = built_wheel("fonts", "1.0")
IN_BASE = (CORE, PLOTS, FONTS)
OTHERS = (
    built_wheel("core", "1.0", {"core/__init__.py": b"", "core/data/new.txt": b"new"}),
    built_wheel("core", "0.5"),
    built_wheel("plots", "2.0", requires=["core<2"]),
    built_wheel("extra", "1.0", requires=["core"]),
    built_wheel("extra", "2.0", requires=["core"]),
    built_wheel("needy", "1.0", requires=["core<1"]),
    built_wheel("narrow", "1.0", requires_python="<3.13"),
    built_wheel("compiled", "1.0", tag="cp312-cp312-win_amd64"),
)


@dataclass
class Workbench:
    """Everything a build needs, on disk and loopback; ``run`` builds what ``files`` say."""

    directory: Path
    index: Index
    base: Base
    facility: Facility
    choice: BaseChoice

    @property
    def store(self) -> LayoutStore:
        assert isinstance(self.facility.store, LayoutStore)
        return self.facility.store

    @property
    def repository(self) -> Path:
        return self.directory / "repo"

    def run(self, files: dict[str, str] | None = None, ref: str = "HEAD", *, rebuild: bool = False) -> ImageRecord:
        if files is not None:
            commit_files(self.repository, files)
        spec = RepoSpec(str(self.repository), ref)
        return build(spec, Bases.only(self.choice), self.facility, rebuild=rebuild, clock=lambda: 1e9)


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[Workbench]:
    with running_index([*IN_BASE, *OTHERS]) as index:
        yield make_workbench(tmp_path, index)


def make_workbench(directory: Path, index: Index, wheels: tuple[BuiltWheel, ...] = IN_BASE) -> Workbench:
    store = LayoutStore(directory / "store")
    base = tiny_base(
        store,
        wheels,
        directory / "base",
        requirements=("core", "plots"),
        protected=("core",),
        repository=f"fac/{REPOSITORY}",
        index_url=index.url,
    )
    packages = PackageIndex(url=index.url, cache=directory / "uv")
    facility = Facility(store, "registry.test", "fac", directory / "cache", packages)
    return Workbench(directory, index, base, facility, BaseChoice("registry.test", base.repository, "current"))
