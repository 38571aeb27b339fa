"""Records of archives become trees: against a loopback server that answers in the documented shapes."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.repository.checkout import checkout, resolve_ref
from builder.repository.spec import RepositoryError, RepoSpec
from tests.testbed.archives import HYDROSHARE, running_archives
from tests.testbed.git_repository import commit_files, git

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"requirements.txt": b"uproot\n", "data/table.csv": b"a,b\n" * 1000, "notebook.ipynb": b"{}"}
FLAT = {"requirements.txt": b"uproot\n", "table.csv": b"a,b\n", "notebook.ipynb": b"{}"}


def url_of(archive: str, host: str) -> str:
    return {
        "zenodo": "zenodo:10.5281/zenodo.11",
        "figshare": "figshare:10.6084/m9.figshare.34",
        "dataverse": "dataverse:10.7910/DVN/ABCDEF",
        "hydroshare": f"hydroshare:{HYDROSHARE}",
        "ckan": f"ckan:{host}/dataset/sample",
    }[archive]


ALL = ("zenodo", "figshare", "dataverse", "hydroshare", "ckan")


@pytest.mark.parametrize("archive", ALL)
def test_the_tree_is_that_of_a_commit_with_the_same_files(archive: str, tmp_path: Path) -> None:
    files = FLAT if archive == "ckan" else FILES
    commit_files(tmp_path / "same", files)
    with running_archives(files) as archives:
        spec = RepoSpec(url_of(archive, archives.host))
        commit = resolve_ref(spec, archives.fetching)
        tree = checkout(commit, tmp_path / "cache", archives.fetching)
        assert tree.tree_id == git(tmp_path / "same", "rev-parse", "HEAD^{tree}")
        assert tree.read("requirements.txt") == b"uproot\n"
        seen = len(archives.requests)
        again = checkout(commit, tmp_path / "cache", archives.fetching)
        assert (again, len(archives.requests)) == (tree, seen)
        # What a record of the image says builds it again, and only as long as it holds the same files.
        stored = RepoSpec(commit.spec.public_url, commit.id)
        assert resolve_ref(stored, archives.fetching).id == commit.id
        archives.files = {**files, "requirements.txt": b"awkward\n"}
        with pytest.raises(RepositoryError, match="holds other files than it did as"):
            resolve_ref(stored, archives.fetching)


@pytest.mark.parametrize(
    ("spec", "exact"),
    [
        ("zenodo:10.5281/zenodo.11", "zenodo:10.5281/zenodo.12"),
        ("zenodo:10.5281/zenodo.12", "zenodo:10.5281/zenodo.12"),
        ("zenodo:10.1000/own", "zenodo:10.1000/own"),
        ("figshare:10.6084/m9.figshare.34", "figshare:10.6084/m9.figshare.34.v2"),
        ("figshare:10.6084/m9.figshare.34.v2", "figshare:10.6084/m9.figshare.34.v2"),
        ("figshare:10.25384/institution.1", "figshare:10.25384/institution.1"),
    ],
)
def test_a_doi_becomes_the_doi_of_one_version(spec: str, exact: str) -> None:
    with running_archives(FILES) as archives:
        assert resolve_ref(RepoSpec(spec), archives.fetching).spec.url == exact


def test_a_state_of_a_ckan_dataset() -> None:
    with running_archives(FLAT) as archives:
        commits = {
            resolve_ref(RepoSpec(f"ckan:{archives.host}/dataset/sample{state}"), archives.fetching).id
            for state in ("", "?activity_id=abc", "/history/abc")
        }
        assert len(commits) == 1


@pytest.mark.parametrize(
    ("spec", "ref", "message"),
    [
        ("zenodo:10.5281/zenodo.99", "HEAD", "there is no Zenodo record 99 at"),
        ("zenodo:10.1000/none", "HEAD", "there is no DOI 10.1000/none"),
        ("figshare:10.6084/m9.figshare.5", "HEAD", "there is no Figshare article 5"),
        ("dataverse:10.7910/DVN/NONE", "HEAD", "there is no Dataverse dataset 10.7910/DVN/NONE"),
        ("hydroshare:" + "0" * 32, "HEAD", "there is no HydroShare resource 000"),
        ("zenodo:10.5281/zenodo.12", "main", "has no refs; name the version by its DOI"),
    ],
)
def test_what_is_not_there(spec: str, ref: str, message: str) -> None:
    with running_archives(FILES) as archives, pytest.raises(RepositoryError, match=message):
        resolve_ref(RepoSpec(spec, ref), archives.fetching)


@pytest.mark.parametrize("archive", ALL)
def test_a_file_that_is_not_what_it_is_said_to_be(archive: str, tmp_path: Path) -> None:
    with running_archives({"a.txt": b"right"}) as archives:
        commit = resolve_ref(RepoSpec(url_of(archive, archives.host)), archives.fetching)
        for served, message in ((b"wrong", "has not the md5 checksum"), (b"x" * 99, "is bigger than|has not the md5")):
            archives.served["a.txt"] = served
            with pytest.raises(RepositoryError, match=rf"a\.txt ({message})"):
                checkout(commit, tmp_path / "cache", archives.fetching)
        archives.served.clear()
        assert checkout(commit, tmp_path / "cache", archives.fetching).read("a.txt") == b"right"


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", ".git/config", "a//b", "x/.GIT/y", "a\nb"])
def test_a_name_that_leads_out(name: str, tmp_path: Path) -> None:
    with running_archives({name: b"x"}) as archives:
        commit = resolve_ref(RepoSpec("zenodo:10.5281/zenodo.12"), archives.fetching)
        with pytest.raises(RepositoryError, match="which has no place in a repository"):
            checkout(commit, tmp_path / "cache", archives.fetching)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


def test_one_archive_of_software_is_unpacked(tmp_path: Path) -> None:
    files = {"repo.zip": zipped({"user-repo-1234/": b"", "user-repo-1234/a.txt": b"a", "user-repo-1234/d/b": b"b"})}
    for software, names in ((True, {"a.txt", "d"}), (False, {"repo.zip"})):
        with running_archives(files, software=software) as archives:
            commit = resolve_ref(RepoSpec("zenodo:10.5281/zenodo.12"), archives.fetching)
            tree = checkout(commit, tmp_path / "cache", archives.fetching)
            assert tree.names("") == names


def test_limits(tmp_path: Path) -> None:
    with running_archives(FILES) as archives:
        spec = RepoSpec("zenodo:10.5281/zenodo.12")
        commit = resolve_ref(spec, archives.fetching)
        for limits, message in (
            ({"max_files": 2}, "has more than the 2 files"),
            ({"max_file_bytes": 100}, "table.csv of the zenodo record 12 has 0 MB"),
            ({"max_bytes": 100}, "have more than the 0 MB"),
        ):
            fetching = replace(archives.fetching, **limits)  # type: ignore[arg-type]
            with pytest.raises(RepositoryError, match=message):
                checkout(commit, tmp_path / "cache", fetching)
        with pytest.raises(RepositoryError, match=r"this site does not build zenodo:10\.5281/zenodo\.12"):
            resolve_ref(spec, replace(archives.fetching, deny=("zenodo:*",)))
        with pytest.raises(RepositoryError, match="local network"):
            resolve_ref(spec, replace(archives.fetching, private_addresses=False))
