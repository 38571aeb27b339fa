"""Makes wheels from source, once: each is found again by the hash of its source, here and in the registry.

::

    SourceRequirement -locate-> Source (identity, files) -key-> MadeWheels (local, then registry)
                                                          `---> Sandbox -normalise-> wheelhouse, MadeWheels

What decides a wheel is its source (git tree, or the archive's sha256), the subdirectory, Python ``X.Y``, the platform
and the recipe (source.py). The base's digest is not among it: a pure Python wheel is the same for all, and one with
compiled parts names Python, machine and C library, which are. Neither are the versions of the build requirements: the
newest are taken when the wheel is made for the first time, and that wheel then stays.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name, parse_wheel_filename

from builder.container.engine import EngineError
from builder.layers.errors import LayerError
from builder.layers.tree import tree_entries
from builder.locking.pylock import LockedPackage
from builder.repository.checkout import checkout, resolve_ref
from builder.repository.git import git
from builder.repository.spec import RepositoryError, RepoSpec
from builder.sources import index_page
from builder.sources.default_index import default_index
from builder.sources.download import Downloader, has_credentials, public
from builder.sources.errors import SourceBuildError
from builder.sources.normalise import check_filename, normalise_wheel
from builder.sources.project import read_build_system
from builder.sources.sandbox import BuildRequest, Sandbox
from builder.sources.sdist import SUFFIXES, read_pyproject
from builder.sources.shelf import file_sha256, wheel_package
from builder.sources.source import UNRELEASED, Source, file_entry, source_key, tag_version, told_version
from registry_sync.errors import RegistryError
from registry_sync.files import write_atomically
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from builder.base import Base
    from builder.environment.spec import SourceRequirement
    from builder.events import Progress
    from builder.facility import Facility
    from builder.locking.made_wheels import WheelMaker
    from builder.repository.fetching import Fetching
    from builder.repository.tree import Tree

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFE = re.compile(r"[A-Za-z0-9_.!+-]{1,200}")


def make_maker(facility: Facility, base: Base, tree: Tree, progress: Progress) -> WheelMaker:
    """Return what makes wheels for ``base`` out of ``tree`` and elsewhere; notes for the user go to ``progress``."""
    return SourceWheelMaker(facility, base, tree, progress)


@dataclass(frozen=True)
class SourceWheelMaker:
    """A :class:`~builder.locking.made_wheels.WheelMaker` that builds in a container of the base."""

    facility: Facility
    base: Base
    tree: Tree
    progress: Progress
    _made: dict[str, LockedPackage] = field(default_factory=dict)

    def from_source(self, source: SourceRequirement) -> LockedPackage:
        """Return the wheel of a stated source. Raises :class:`CasabinderError` that names the file and line."""
        locate = {"local": self._local, "git": self._git, "archive": self._archive}[source.kind]
        try:
            located = locate(source)
        except (SourceBuildError, RepositoryError, LayerError) as error:
            raise SourceBuildError(f"{source.source}: {error}") from error
        if isinstance(located, LockedPackage):
            return located
        package = self._wheel(located)
        if source.editable:
            self.progress.say(
                f"{source.source}: {package} is installed as a wheel: what is changed in it later needs a new build"
            )
        if located.version.startswith(UNRELEASED) and package.version == located.version:
            self.progress.say(
                f"{source.source}: {package.name} takes its version from git's history, which is not fetched; it is "
                f"{package.version} here (a tag with a version as the ref gives that version)"
            )
        return package

    def from_index(self, requirement: Requirement) -> LockedPackage:
        """Return the wheel of the newest source distribution of the index that satisfies ``requirement``."""
        name = canonicalize_name(requirement.name)
        index = (self.facility.index.url or default_index()).rstrip("/")
        downloader = self._downloader.trusting
        try:
            page = downloader.page(f"{index}/{name}/", index_page.ACCEPT)
            files = index_page.parse_page(*page) if page else []
        except RepositoryError as error:
            raise SourceBuildError(f"the package index could not be asked for {name}: {error}") from error
        chosen = index_page.newest_sdist(files, requirement, self.base.inventory.target.python_full)
        if chosen is None:
            raise SourceBuildError(
                f"the package index has neither a wheel nor a source distribution of {requirement} for Python "
                f"{self.base.inventory.target.python_full}; ask for another version"
            )
        self.progress.say(f"{requirement} has no wheel for this base: it is made from {chosen.filename}")
        stated = (chosen.sha256,) if chosen.sha256 else ()
        return self._wheel(self._archived(chosen.url, chosen.filename, stated, downloader, name))

    @property
    def _downloader(self) -> Downloader:
        return Downloader(self.facility.cache / "sources", self._fetching)

    @property
    def _fetching(self) -> Fetching:
        fetching = self.facility.fetching
        return replace(fetching, ca_bundle=fetching.ca_bundle or self.facility.index.ca_bundle)

    def _local(self, source: SourceRequirement) -> Source:
        path = source.path.strip("/")
        if source.subdirectory:
            path = f"{path}/{source.subdirectory}".strip("/")
        tree_id = self._subtree(self.tree, path)
        spec = self.tree.commit.spec
        return Source(
            where=source.source,
            what=f"the directory {path or '.'!r} of the repository",
            identity={"tree": tree_id},
            pyproject=lambda: self.tree.read(f"{path}/pyproject.toml".lstrip("/")),
            entries=lambda: tree_entries(self.tree.git_dir, tree_id, "build/source"),
            name=source.name,
            version=f"{UNRELEASED}{tree_id[:12]}",
            private=self._private(spec.url),
        )

    def _private(self, url: str) -> bool:
        """Whether a git repository is read with somebody's rights, so that what comes of it is not everybody's."""
        return has_credentials(url) or (self.facility.fetching.credentials is not None and "://" in url)

    def _subtree(self, tree: Tree, path: str) -> str:
        if not path:
            return tree.tree_id
        if any(part in ("", ".", "..") for part in path.split("/")) or not tree.has_directory(path):
            raise SourceBuildError(f"the repository has no directory {path!r}")
        found = git(tree.git_dir, "rev-parse", "--verify", "--end-of-options", f"{tree.tree_id}:{path}")
        return found.decode().strip()

    def _git(self, source: SourceRequirement) -> Source:
        url = source.url.removeprefix("git+")
        spec = RepoSpec(url, source.ref or "HEAD", source.subdirectory)
        if (spec.is_local or url.startswith("file:")) and not self.tree.commit.spec.is_local:
            raise SourceBuildError(f"{spec.public_url} is a place on the builder's own disk; give an https address")
        commit = resolve_ref(spec, self._fetching)
        if source.ref != commit.id:
            self.progress.say(f"{source.source}: {spec.public_url} at {spec.ref} resolved to commit {commit.id}")
        tree = checkout(commit, self.facility.cache, self._fetching)
        version = tag_version(commit.ref) or f"{UNRELEASED}{commit.id[:12]}"
        below = f"{source.subdirectory}/" if source.subdirectory else ""
        return Source(
            where=source.source,
            what=f"{spec.public_url} at {commit.id[:12]}" + (f", {source.subdirectory}" if below else ""),
            identity={"tree": tree.tree_id, "subdirectory": source.subdirectory, "version": version},
            pyproject=lambda: tree.read(f"{below}pyproject.toml"),
            entries=lambda: tree_entries(tree.git_dir, tree.tree_id, "build/source"),
            name=source.name,
            subdirectory=source.subdirectory,
            version=version,
            private=self._private(url),
        )

    def _archive(self, source: SourceRequirement) -> Source | LockedPackage:
        try:
            parts = urlsplit(source.url)
            filename = unquote(parts.path.rpartition("/")[2])
        except ValueError as error:
            raise SourceBuildError(f"{source.url!r} is not an address") from error
        if any(part in ("", ".", "..") for part in source.subdirectory.split("/")) and source.subdirectory:
            raise SourceBuildError(f"subdirectory={source.subdirectory} must be a plain path in the archive")
        if not _SAFE.fullmatch(filename) or not filename.endswith((".whl", *SUFFIXES)):
            raise SourceBuildError(
                f"{public(source.url)} is neither a wheel nor an archive of sources ({', '.join(SUFFIXES)})"
            )
        hashes = tuple(text.removeprefix("sha256:") for text in source.hashes)
        if any(not _SHA256.fullmatch(text) for text in hashes):
            raise SourceBuildError(f"{public(source.url)}: a hash must be a sha256")
        if parts.scheme != "https" and not (parts.scheme == "http" and hashes):
            raise SourceBuildError(f"{public(source.url)} is not https; use https, or state the file's sha256")
        downloader = self._downloader
        if filename.endswith(".whl"):
            return self._stated_wheel(source, filename, hashes, downloader)
        located = self._archived(source.url, filename, hashes, downloader, source.name, source.subdirectory)
        return replace(located, where=source.source, private=has_credentials(source.url))

    def _stated_wheel(
        self, source: SourceRequirement, filename: str, hashes: tuple[str, ...], downloader: Downloader
    ) -> LockedPackage:
        check_filename(filename)
        path, sha256 = downloader.archive(source.url, filename, hashes)
        package = wheel_package(filename, sha256, path.stat().st_size)
        self._check(package, source.name, f"{source.source}: {public(source.url)}")
        self.facility.wheelhouse.add(package, path)
        if not has_credentials(source.url):
            key = source_key({"wheel": sha256}, self.base.inventory.target)
            self.facility.made_wheels.record(key, package, path, public(source.url))
        return package

    def _archived(
        self,
        url: str,
        filename: str,
        hashes: tuple[str, ...],
        downloader: Downloader,
        name: str,
        subdirectory: str = "",
    ) -> Source:
        """Return the source that an archive is; with a stated hash the archive is fetched only if it is needed."""
        if len(hashes) != 1:
            hashes = (downloader.archive(url, filename, hashes)[1],)

        def fetched() -> Path:
            return downloader.archive(url, filename, hashes)[0]

        suffix = ".zip" if filename.endswith(".zip") else ".tar"
        return Source(
            where="",
            what=filename,
            identity={"archive": hashes[0], "subdirectory": subdirectory},
            pyproject=lambda: read_pyproject(fetched(), subdirectory),
            entries=lambda: [file_entry(f"build/archive{suffix}", fetched())],
            name=name,
            archive=f"archive{suffix}",
            subdirectory=subdirectory,
        )

    def _wheel(self, source: Source) -> LockedPackage:
        """Return the wheel of a source: the one that is known, or a new one."""
        key = source_key(source.identity, self.base.inventory.target)
        package = self._made.get(key) or self._known(key, source)
        if package is None:
            package = self._build(key, source)
        self._check(package, source.name, source.told)
        self._made[key] = package
        return package

    def _known(self, key: str, source: Source) -> LockedPackage | None:
        wheelhouse, made = self.facility.wheelhouse, self.facility.made_wheels
        here = self._remembered(key)
        if source.private:
            return here if here is not None and wheelhouse.has(here) else None
        package = made.lookup(key)
        if package is None and here is not None and wheelhouse.has(here):
            package = made.record(key, here, wheelhouse.path(here), source.what)
        if package is not None:
            wheelhouse.fetch([package], self.progress.add)
            self._remember(key, package)
        return package

    def _remembered(self, key: str) -> LockedPackage | None:
        try:
            document = json.loads(self._note(key).read_bytes())
            return wheel_package(str(document["filename"]), str(document["sha256"]), int(document["size"]))
        except (OSError, ValueError, KeyError, TypeError, SourceBuildError):
            return None

    def _remember(self, key: str, package: LockedPackage) -> None:
        document = {"filename": package.filename, "sha256": package.sha256, "size": package.size}
        write_atomically(self._note(key), canonical_json(document))

    def _note(self, key: str) -> Path:
        return self.facility.cache / "made-wheels" / f"{key}.json"

    def _build(self, key: str, source: Source) -> LockedPackage:
        if not self.facility.containers.engine:
            raise SourceBuildError(
                f"{source.told} must be made into a wheel, which runs its code in a container, and this facility "
                "starts none; ask for a released version with a wheel, or the facility for an engine"
            )
        try:
            pyproject = source.pyproject()
        except (SourceBuildError, RepositoryError) as error:
            raise SourceBuildError(f"{source.told}: {error}") from error
        system = read_build_system(pyproject, source.told)
        self.progress.say(f"making a wheel of {source.what}")
        request = BuildRequest(
            source.told, system, source.entries, source.archive, source.subdirectory, told_version(source.version)
        )
        try:
            with tempfile.TemporaryDirectory(prefix=".made-", dir=self._scratch()) as scratch:
                raw = Path(scratch) / "raw.whl"
                filename = self._sandbox().build(request, raw, self.progress.say)
                package = self._keep(source, filename, raw)
        except (RepositoryError, LayerError) as error:
            raise SourceBuildError(f"{source.told} can't be read: {error}") from error
        except EngineError as error:
            raise SourceBuildError(
                f"{source.told} must be made into a wheel in a container, and {error}; or ask for a released version "
                "that has a wheel"
            ) from error
        if not source.private:
            path = self.facility.wheelhouse.path(package)
            try:
                first = self.facility.made_wheels.record(key, package, path, source.what)
            except RegistryError as error:
                raise SourceBuildError(f"{source.told}: its wheel can't be kept in the registry: {error}") from error
            if first != package:
                self.facility.wheelhouse.fetch([first], self.progress.add)
                package = first
        self._remember(key, package)
        return package

    def _sandbox(self) -> Sandbox:
        base = self.base
        if base.registry.startswith("oci:"):
            raise EngineError("the base is in a directory, where no engine can pull it from")
        return Sandbox(
            image=f"{base.registry}/{base.repository}@{base.digest}",
            interpreter=base.install_target.interpreter,
            target=base.inventory.target,
            limits=self.facility.containers,
            index=self.facility.index,
            wheelhouse=self.facility.wheelhouse,
        )

    def _scratch(self) -> Path:
        directory = self.facility.scratch or self.facility.cache / "made-wheels"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _keep(self, source: Source, filename: str, raw: Path) -> LockedPackage:
        """Normalise what came out of the sandbox and put it into the wheelhouse."""
        try:
            check_filename(filename)
            named = raw.rename(raw.with_name(filename))
            final = raw.parent / "final.whl"
            normalise_wheel(named, final)
            package = wheel_package(filename, file_sha256(final), final.stat().st_size)
            self._check(package, source.name, source.told)
        except (SourceBuildError, LayerError) as error:
            raise SourceBuildError(f"{source.told} was built, but its wheel can't be used: {error}") from error
        self.facility.wheelhouse.add(package, final)
        return package

    def _check(self, package: LockedPackage, stated: str, told: str) -> None:
        """Refuse a wheel of another name than was stated, or for another platform."""
        if stated and canonicalize_name(stated) != package.name:
            raise SourceBuildError(f"{told} is called {package.name}, and not {stated}; state its right name")
        _, _, _, tags = parse_wheel_filename(package.filename)
        target = self.base.inventory.target
        if not any(tag in target.tag_rank for tag in tags):
            raise SourceBuildError(
                f"{told}: {package.filename} is for another platform than Python {target.python} on {target.machine} "
                f"(glibc {target.glibc})"
            )
