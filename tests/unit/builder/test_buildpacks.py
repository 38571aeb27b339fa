from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.buildpacks import apt_script, build_pack, check_steps, post_build_script
from builder.environment.spec import ContainerSteps
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "registry.test/fac/repo@sha256:" + "1" * 64
DOCKERFILE = f"""\
FROM {IMAGE}
USER root
RUN export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && \
apt-get -qq -o APT::Update::Error-Mode=any update && \
apt-get install --yes --no-install-recommends jq=1.7.1-6 tree && \
apt-get -qq clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
USER 1000:1000
WORKDIR ${{REPO_DIR}}
RUN chmod +x ./binder/postBuild && ./binder/postBuild
"""


def test_the_dockerfile_has_only_the_steps_that_run_code() -> None:
    pack = build_pack(ContainerSteps(apt=("tree", "jq=1.7.1-6"), post_build="binder/postBuild"))
    assert pack(IMAGE).render() == DOCKERFILE


def test_repo2docker_takes_the_build_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from repo2docker.app import Repo2Docker
    from repo2docker.contentproviders import Local

    (tmp_path / "postBuild").write_text("the steps' own path counts, not the current directory's\n")
    monkeypatch.chdir(tmp_path)
    app = Repo2Docker()
    app.buildpacks = [build_pack(ContainerSteps(apt=("jq=1.7.1-6", "tree"), post_build="binder/postBuild"))]
    app.content_providers = [Local]
    app.base_image = IMAGE
    (picked,) = (pack(app.base_image) for pack in app.buildpacks)
    assert picked.detect()
    assert picked.render() == DOCKERFILE


@pytest.mark.parametrize("kind", ["r", "julia", "nix"])
def test_other_languages_are_refused_with_what_to_do(kind: str) -> None:
    with pytest.raises(CasabinderError, match=r"can't be put on a casabinder base: give the repository a Dockerfile"):
        build_pack(ContainerSteps(buildpack=kind))  # type: ignore[arg-type]


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


def test_the_order_of_packages_does_not_matter() -> None:
    assert apt_script(("tree", "jq", "tree")) == apt_script(("jq", "tree"))


def test_post_build_is_run_by_its_own_first_line_wherever_it_lies(tmp_path: Path) -> None:
    script = tmp_path / "it's binder" / "postBuild"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho made > made.txt\n")
    subprocess.run(["sh", "-ec", post_build_script("it's binder/postBuild")], cwd=tmp_path, check=True)
    assert (tmp_path / "made.txt").read_text() == "made\n"
