"""What can be said about a source without an engine: its key, what is refused, and the wheel that is there already."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from builder.container.engine import ContainerLimits
from builder.environment.spec import SourceRequirement
from builder.events import Progress
from builder.facility import Facility
from builder.locking.pylock import LockError
from builder.locking.resolver import PackageIndex
from builder.repository.checkout import checkout, resolve_ref
from builder.repository.fetching import Fetching
from builder.repository.spec import RepoSpec
from builder.sources.download import has_credentials, public
from builder.sources.errors import SourceBuildError
from builder.sources.maker import SourceWheelMaker
from builder.sources.source import source_key, tag_version
from registry_sync.layout import LayoutStore
from tests.testbed.git_repository import commit_files
from tests.testbed.packages import built_wheel, running_index
from tests.testbed.tiny_base import TARGET, tiny_base

if TYPE_CHECKING:
    from pathlib import Path

THING = built_wheel("thing", "1.5")
LOCAL = SourceRequirement("local", "requirements.txt, line 3", path="pkg")


@pytest.fixture
def maker(tmp_path: Path) -> SourceWheelMaker:
    return make(tmp_path, tmp_path / "cache")


def make(tmp_path: Path, cache: Path, index: str = "http://127.0.0.1:9/simple") -> SourceWheelMaker:
    """A maker of a facility that has no engine."""
    store = LayoutStore(tmp_path / "store")
    base = tiny_base(store, (), tmp_path / "base", repository="fac/bases/tiny")
    facility = Facility(
        store,
        "registry.test",
        "fac",
        cache,
        PackageIndex(url=index),
        containers=ContainerLimits(engine=False),
        fetching=Fetching(private_addresses=True),
    )
    if not (tmp_path / "repo").exists():
        commit_files(tmp_path / "repo", {"pkg/setup.py": "", "README": "", "pkg/sub/setup.py": ""})
    tree = checkout(resolve_ref(RepoSpec(str(tmp_path / "repo"))), cache)
    return SourceWheelMaker(facility, base, tree, Progress(lambda _: None, "lock"))


def record(maker: SourceWheelMaker, identity: dict[str, str], tmp_path: Path) -> None:
    """Do as if ``thing`` had been made from a source before, by another builder."""
    wheel = THING.write(tmp_path)
    maker.facility.made_wheels.record(source_key(identity, TARGET), THING.locked(), wheel, "test")


IDENTITIES = st.dictionaries(st.sampled_from(["tree", "subdirectory", "version", "archive"]), st.text(max_size=5))


@given(IDENTITIES, IDENTITIES)
def test_keys_differ_as_sources_do(one: dict[str, str], other: dict[str, str]) -> None:
    assert (source_key(one, TARGET) == source_key(other, TARGET)) == (one == other)
    assert source_key(one, TARGET) == source_key(dict(reversed(one.items())), TARGET)
    assert source_key(one, TARGET) != source_key(one, replace(TARGET, python="3.12"))
    assert source_key(one, TARGET) != source_key(one, replace(TARGET, machine="aarch64"))


def test_without_an_engine_a_source_is_refused_with_its_line(maker: SourceWheelMaker) -> None:
    with pytest.raises(SourceBuildError, match=r"^requirements.txt, line 3: the directory 'pkg' .*starts none"):
        maker.from_source(LOCAL)


def test_an_engine_that_is_not_there(maker: SourceWheelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    able = replace(maker, facility=replace(maker.facility, containers=ContainerLimits()))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(SourceBuildError, match=r"^requirements.txt, line 3: .* and there is no docker command here"):
        able.from_source(LOCAL)


def test_a_wheel_that_anybody_made_needs_no_engine(maker: SourceWheelMaker, tmp_path: Path) -> None:
    tree = maker.tree.commit.spec
    identity = {"tree": maker._subtree(maker.tree, "pkg")}
    assert tree.is_local
    record(maker, identity, tmp_path)
    package = maker.from_source(LOCAL)
    assert package == THING.locked()
    assert maker.facility.wheelhouse.path(package).read_bytes() == THING.content
    other = make(tmp_path, tmp_path / "other")
    assert other.facility.wheelhouse.fetch([package])[package.sha256].read_bytes() == THING.content
    assert other.facility.wheelhouse.sized([replace(package, size=0)]) == [package]


def test_a_wheel_of_another_name_is_refused(maker: SourceWheelMaker, tmp_path: Path) -> None:
    record(maker, {"tree": maker._subtree(maker.tree, "pkg")}, tmp_path)
    with pytest.raises(SourceBuildError, match=r"line 3: the directory 'pkg' .* is called thing, and not other"):
        maker.from_source(replace(LOCAL, name="other"))
    assert maker.from_source(replace(LOCAL, name="Thing")).name == "thing"


def test_the_first_recorded_wheel_stays(maker: SourceWheelMaker, tmp_path: Path) -> None:
    record(maker, {"tree": "x"}, tmp_path)
    other = built_wheel("thing", "1.6")
    key = source_key({"tree": "x"}, TARGET)
    assert maker.facility.made_wheels.record(key, other.locked(), other.write(tmp_path), "x") == THING.locked()
    assert maker.facility.made_wheels.size(other.sha256) is None


def test_a_made_wheel_that_is_gone(maker: SourceWheelMaker) -> None:
    with pytest.raises(LockError, match=r"thing-1.5-py3-none-any.whl was made from source, and neither this builder"):
        maker.facility.wheelhouse.fetch([THING.locked()])


@pytest.mark.parametrize("path", ["nowhere", "../x", "pkg/../pkg", "README", "/etc"])
def test_directories_that_are_none(maker: SourceWheelMaker, path: str) -> None:
    with pytest.raises(SourceBuildError, match=r"requirements.txt, line 3: the repository has no directory"):
        maker.from_source(replace(LOCAL, path=path))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://host/x-1.0.tar.gz", "http://host/x-1.0.tar.gz is not https; use https, or state"),
        ("ftp://host/x-1.0.tar.gz", "is not https"),
        ("https://u:secret@host/x.exe?token=secret", "https://host/x.exe is neither a wheel nor an archive"),
        ("https://host/a%2Fb/..%2fx.zip/", "is neither a wheel nor an archive"),
        ("https://host/..%2f..%2fx.zip", "is neither a wheel nor an archive"),
        ("http://[bad/x.zip", "is not an address"),
        ("https://host/x-1.0-py3-none-win_amd64x.whl.zip.exe", "is neither a wheel nor an archive"),
    ],
)
def test_archives_that_are_refused(maker: SourceWheelMaker, url: str, sentence: str) -> None:
    with pytest.raises(SourceBuildError, match=r"^requirements.txt, line 3: ") as caught:
        maker.from_source(SourceRequirement("archive", "requirements.txt, line 3", url=url))
    assert sentence in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_stated_wheel_goes_straight_to_the_wheelhouse(tmp_path: Path) -> None:
    with running_index([THING]) as index:
        maker = make(tmp_path, tmp_path / "cache")
        url = index.address_of(THING)
        stated = SourceRequirement("archive", "r.txt, line 1", url=url, hashes=(f"sha256:{THING.sha256}",))
        package = maker.from_source(stated)
        assert package == THING.locked()
        assert maker.facility.wheelhouse.fetch([package])[package.sha256].read_bytes() == THING.content
        wrong = replace(stated, hashes=("f" * 64,))
        with pytest.raises(SourceBuildError, match=f"r.txt, line 1: .* has sha256 {THING.sha256}, which is not what"):
            maker.from_source(wrong)


def test_a_stated_wheel_for_another_platform(tmp_path: Path) -> None:
    foreign = built_wheel("thing", tag="cp312-cp312-win_amd64")
    with running_index([foreign]) as index:
        maker = make(tmp_path, tmp_path / "cache")
        url = index.address_of(foreign)
        with pytest.raises(SourceBuildError, match=r"is for another platform than Python 3.13 on x86_64"):
            maker.from_source(SourceRequirement("archive", "r.txt", url=url, hashes=(foreign.sha256,)))


def test_an_index_without_a_source_distribution(tmp_path: Path) -> None:
    with running_index([THING]) as index:
        maker = make(tmp_path, tmp_path / "cache", index.url)
        with pytest.raises(SourceBuildError, match=r"has neither a wheel nor a source distribution of thing>=1"):
            maker.from_index(Requirement("thing>=1"))
        with pytest.raises(SourceBuildError, match=r"has neither a wheel nor a source distribution of nothing"):
            maker.from_index(Requirement("nothing"))


def test_places_on_the_builders_disk_are_for_local_repositories_only(maker: SourceWheelMaker) -> None:
    commit = maker.tree.commit
    foreign = replace(commit, spec=RepoSpec("https://host/x"))
    remote = replace(maker, tree=replace(maker.tree, commit=foreign))
    for url in (f"git+file://{commit.spec.location}", commit.spec.location):
        with pytest.raises(SourceBuildError, match=r"line 3: .* is a place on the builder's own disk"):
            remote.from_source(SourceRequirement("git", "requirements.txt, line 3", url=url))


def test_what_is_read_with_credentials_is_kept_here_only(maker: SourceWheelMaker, tmp_path: Path) -> None:
    spec = RepoSpec("https://user:secret@host/x")
    private = replace(maker, tree=replace(maker.tree, commit=replace(maker.tree.commit, spec=spec)))
    record(private, {"tree": private._subtree(private.tree, "pkg")}, tmp_path)
    with pytest.raises(SourceBuildError, match=r"starts none"):  # the shared one is not taken
        private.from_source(LOCAL)


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://host/x", False),
        ("https://token@host/x", True),
        ("https://u:p@host/x", True),
        ("ssh://git@host/x", True),
        ("git@host:x/y", True),
        ("/srv/x", False),
    ],
)
def test_credentials_are_seen(url: str, private: bool) -> None:
    assert has_credentials(url) == private


def test_public_addresses() -> None:
    assert public("https://u:p@host:1/x.zip?token=1#sha256=2") == "https://host:1/x.zip"
    assert public("http://[bad") == "an address that is none"


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("refs/tags/v1.2.3", "1.2.3"),
        ("refs/tags/1.0rc1", "1.0rc1"),
        ("refs/tags/pkg/v2.0", "2.0"),
        ("refs/tags/pkg-2.0", "2.0"),
        ("refs/tags/latest", ""),
        ("refs/tags/v1.x", ""),
        ("refs/heads/v1.2", ""),
        ("HEAD", ""),
    ],
)
def test_versions_of_tags(ref: str, version: str) -> None:
    assert tag_version(ref) == version


def test_the_builders_hash_is_the_wheels(tmp_path: Path) -> None:
    from builder.sources.shelf import file_sha256

    assert file_sha256(THING.write(tmp_path)) == hashlib.sha256(THING.content).hexdigest()
