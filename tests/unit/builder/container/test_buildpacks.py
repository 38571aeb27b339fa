"""repo2docker's build packs as they are used here. The servers of R and Julia are not asked: what they say is given.

After an update of repo2docker, write the golden Dockerfiles anew and read the difference::

    CASABINDER_UPDATE_GOLDEN=1 python -m pytest tests/unit/builder/container/test_buildpacks.py
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
import requests

from builder.container.buildpacks import (
    EnvironmentBuildPack,
    EnvironmentJuliaBuildPack,
    EnvironmentRBuildPack,
    assemble_script,
    build_pack,
    build_script,
    run_environment,
)
from builder.environment.spec import ContainerSteps
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from datetime import date

IMAGE = "registry.test/fac/repo@sha256:" + "1" * 64
GOLDEN = Path(__file__).parent / "golden"
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
BASE = {
    "JUPYTER_PATH": "/usr/local/share/casabinder",
    "KERNEL_PYTHON_PREFIX": "/srv/env",
    "PATH": "/srv/env/bin:/usr/bin",
    "REPO_DIR": "/srv/repo",
}
R = ContainerSteps(
    apt=("tree",),
    post_build="postBuild",
    buildpack="r",
    version="4.4",
    snapshot="2024-05-01",
    install="install.R",
    project="DESCRIPTION",
)
JULIA = ContainerSteps(buildpack="julia", version="1.6", project="binder/Project.toml")


class KnownR(EnvironmentRBuildPack):
    """R, told which state of its packages there is."""

    steps: ClassVar[ContainerSteps] = R

    def get_rspm_snapshot_url(self, snapshot_date: date, max_days_prior: int = 7) -> str:
        return "https://packages.test/${VERSION_CODENAME}/" + str(snapshot_date)


class KnownJulia(EnvironmentJuliaBuildPack):
    """Julia, told which versions there are."""

    steps: ClassVar[ContainerSteps] = JULIA
    all_julias: ClassVar[list[str]] = ["1.6.7", "1.10.4", "1.11.2"]


PACKS = {"r": KnownR, "julia": KnownJulia}


def test_the_dockerfile_has_only_the_steps_that_run_code() -> None:
    pack = build_pack(ContainerSteps(apt=("tree", "jq=1.7.1-6"), post_build="binder/postBuild"))
    assert pack(IMAGE).render() == DOCKERFILE


@pytest.mark.parametrize("language", PACKS)
def test_the_dockerfile_of_a_language(language: str) -> None:
    # Whose servers repo2docker names is its own affair.
    rendered = re.sub(r"https://[^/\s\"]+", "https://server.test", PACKS[language](IMAGE).render())
    golden = GOLDEN / f"{language}.Dockerfile"
    if os.environ.get("CASABINDER_UPDATE_GOLDEN"):
        golden.write_text(rendered)
    assert rendered == golden.read_text()


@pytest.mark.parametrize("steps", [R, JULIA, ContainerSteps(post_build="postBuild")])
def test_repo2docker_takes_the_build_packs(
    steps: ContainerSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from repo2docker.app import Repo2Docker
    from repo2docker.buildpacks.conda import CondaBuildPack
    from repo2docker.contentproviders import Local

    (tmp_path / "environment.yml").write_text("the current directory does not count\n")
    monkeypatch.chdir(tmp_path)
    app = Repo2Docker()
    app.buildpacks = [build_pack(steps)]
    app.content_providers = [Local]
    app.base_image = IMAGE
    (picked,) = (pack(app.base_image) for pack in app.buildpacks)
    assert picked.detect()
    assert isinstance(picked, CondaBuildPack) == bool(steps.buildpack)
    said = str([picked.get_build_env(), picked.get_env(), picked.get_path(), picked.get_assemble_scripts()])
    assert not re.search("conda|mamba|requirements|environment.yml", said)


@pytest.mark.parametrize("pack", PACKS.values())
def test_scripts_are_what_a_shell_understands(pack: type[EnvironmentBuildPack]) -> None:
    for script in (build_script(pack(IMAGE)), assemble_script(pack(IMAGE))):
        for shell in ("bash", "sh"):
            subprocess.run([shell, "-n", "-c", script], check=True)


def test_nothing_of_conda_is_left() -> None:
    for pack in PACKS.values():
        assert not re.search("conda|mamba|npm|useradd|/environment", build_script(pack(IMAGE)))


def test_r_is_of_debian_and_its_proxies_go_where_the_server_is() -> None:
    script = build_script(KnownR(IMAGE))
    assert re.search(r"/r/debian-\$\(", script)
    assert "ubuntu-$" not in script
    (line,) = [line for line in script.splitlines() if "pip" in line]
    assert line.startswith("${KERNEL_PYTHON_PREFIX}/bin/python -m pip --python /srv/jupyter/bin/python install")


def test_users_scripts_are_run_as_the_user(tmp_path: Path) -> None:
    script = build_script(KnownR(IMAGE))
    assert script.count("setpriv --reuid=1000 --regid=1000 --init-groups") == 1
    at = script.index("setpriv")
    assert "install.packages(c('\"'\"'remotes'\"'\"'" in script[at:]
    assert "install.packages" not in script[:at]
    # What is quoted twice still means the same.
    shown = script[at:].replace("setpriv --reuid=1000 --regid=1000 --init-groups /bin/sh -ec", "printf %s", 1)
    said = subprocess.run(["sh", "-ec", shown], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert 'IRkernel::installspec(prefix=Sys.getenv(\\"NB_PYTHON_PREFIX\\"))' in said


@pytest.mark.parametrize(
    ("compat", "version"), [("", "1.11.2"), ("1.6", "1.11.2"), ("~1.10", "1.10.4"), ("=1.6.7", "1.6.7")]
)
def test_the_newest_julia_that_fits(compat: str, version: str) -> None:
    pack = type("Pack", (KnownJulia,), {"steps": ContainerSteps(buildpack="julia", version=compat, project="P.toml")})
    assert pack(IMAGE).newest_version() == version
    assert f"export JULIA_VERSION={version} && mkdir" in build_script(pack(IMAGE))


def test_a_julia_that_does_not_exist() -> None:
    pack = type("Pack", (KnownJulia,), {"steps": ContainerSteps(buildpack="julia", version="2", project="P.toml")})
    with pytest.raises(CasabinderError, match=r"P\.toml: there is no Julia 2; change julia of \[compat\]"):
        build_script(pack(IMAGE))


@pytest.mark.parametrize(("stated", "version"), [("", "4.4.2"), ("4.3", "4.3.3"), ("4.1.0", "4.1.0")])
def test_the_r_that_repo2docker_chooses(stated: str, version: str) -> None:
    assert build_pack(ContainerSteps(buildpack="r", version=stated))(IMAGE).r_version == version


def test_an_r_that_does_not_exist() -> None:
    with pytest.raises(CasabinderError, match=r"runtime\.txt: there is no R 9\.1; write r-4\.4, or a version in full"):
        build_pack(ContainerSteps(buildpack="r", version="9.1"))


def test_what_the_image_is_started_with() -> None:
    assert run_environment(build_pack(ContainerSteps(post_build="postBuild"))(""), BASE) == {}
    assert run_environment(KnownR(""), BASE) == {
        "APP_BASE": "/srv",
        "JUPYTER_PATH": "/usr/local/share/casabinder:/srv/kernels/share/jupyter",
        "LD_LIBRARY_PATH": "/opt/R/4.4.2/lib/R/lib",
        "PATH": "/srv/env/bin:/usr/bin:/usr/lib/rstudio-server/bin/",
        "R_DOC_DIR": "/opt/R/4.4.2/lib/R/doc",
        "R_HOME": "/opt/R/4.4.2/lib/R",
        "R_LIBS_USER": "/srv/rlibs",
    }
    assert run_environment(build_pack(JULIA)(""), BASE) == {
        "APP_BASE": "/srv",
        "JULIA_DEPOT_PATH": "/srv/julia/pkg",
        "JULIA_PATH": "/srv/julia",
        "JULIA_PROJECT": "/srv/repo/binder",
        "JUPYTER_PATH": "/usr/local/share/casabinder:/srv/kernels/share/jupyter",
        "PATH": "/srv/env/bin:/usr/bin:/srv/julia/bin",
    }


def test_a_server_that_can_not_be_reached() -> None:
    class Unreachable(KnownR):
        def get_rspm_snapshot_url(self, snapshot_date: date, max_days_prior: int = 7) -> str:
            raise requests.ConnectionError(f"{snapshot_date} {max_days_prior}")

    class Absent(KnownR):
        def get_rspm_snapshot_url(self, snapshot_date: date, max_days_prior: int = 7) -> str:
            raise ValueError(f"No snapshot found for {snapshot_date} or {max_days_prior} days prior")

    with pytest.raises(CasabinderError, match="the server that says which states of R's packages there are does not"):
        build_script(Unreachable(IMAGE))
    with pytest.raises(CasabinderError, match=r"repo2docker can't say which states .* there are: No snapshot found"):
        build_script(Absent(IMAGE))
