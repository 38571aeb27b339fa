from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.container.scripts import apt_script, check_steps, post_build_script, what_language, what_packages
from builder.environment.spec import ContainerSteps
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("package", ["tree; id", "-o=x", "Tree", "tree\nid", "$(id)", "tree=1 x", "a", "", "tree="])
def test_what_is_no_debian_package_never_reaches_a_shell(package: str) -> None:
    with pytest.raises(CasabinderError, match="is not the name of a Debian package"):
        check_steps(ContainerSteps(apt=("tree", package)))


@given(st.text(max_size=20))
def test_accepted_packages_are_one_word_of_a_shell(package: str) -> None:
    try:
        check_steps(ContainerSteps(apt=(package,)))
    except CasabinderError:
        return
    assert re.fullmatch(r"[A-Za-z0-9.+:~=-]+", package)
    assert shlex.split(package) == [package]
    assert not package.startswith("-")


@given(st.text(max_size=20), st.text(max_size=20))
def test_accepted_versions_and_paths_are_one_word_of_a_shell(version: str, directory: str) -> None:
    for language in ("r", "julia"):
        path = f"{directory}/x"
        try:
            check_steps(ContainerSteps(buildpack=language, version=version, install=path, project=path))
        except CasabinderError:
            continue
        assert shlex.split(path) == [path]
        assert language == "julia" or shlex.split(version) in ([version], [])


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (ContainerSteps(buildpack="nix"), "default.nix is not supported: .*; list the packages"),
        (ContainerSteps(buildpack="r", version="four"), "runtime.txt: 'four' is not a version of R"),
        (ContainerSteps(buildpack="r", snapshot="2015-01-01"), "as of 2015-01-01 are kept by nobody; take 2018-12-07"),
        (ContainerSteps(buildpack="r", install="a b/install.R"), "a b/install.R: the directory's name has signs"),
        (ContainerSteps(buildpack="julia", version="1.6, 1.7", project="Project.toml"), "is not understood; write one"),
        (ContainerSteps(buildpack="julia", project="$(id)/Project.toml"), "the directory's name has signs"),
    ],
)
def test_what_can_not_be_run_is_refused_with_what_to_do(steps: ContainerSteps, sentence: str) -> None:
    with pytest.raises(CasabinderError, match=sentence):
        check_steps(steps)


def test_the_order_of_packages_does_not_matter() -> None:
    assert apt_script(("tree", "jq", "tree")) == apt_script(("jq", "tree"))


def test_post_build_is_run_by_its_own_first_line_wherever_it_lies(tmp_path: Path) -> None:
    script = tmp_path / "it's binder" / "postBuild"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho made > made.txt\n")
    subprocess.run(["sh", "-ec", post_build_script("it's binder/postBuild")], cwd=tmp_path, check=True)
    assert (tmp_path / "made.txt").read_text() == "made\n"


def test_languages_are_told_as_they_were_stated() -> None:
    r = ContainerSteps(buildpack="r", version="4.4", snapshot="2024-05-01", install="install.R", project="DESCRIPTION")
    assert what_language(r) == "R 4.4 and RStudio, packages as of 2024-05-01"
    assert what_packages(r) == "packages of install.R, DESCRIPTION"
    assert what_language(ContainerSteps(buildpack="r")) == "R and RStudio, packages as of two days before the build"
    assert what_packages(ContainerSteps(buildpack="r")) == ""
    assert what_language(ContainerSteps(buildpack="julia", version="^1.10")) == "Julia ^1.10"
