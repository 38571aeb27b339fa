"""An R repository with the real engine: what its steps leave in the image, and that our server starts its kernel.

The servers of R, RStudio and Julia are not reached from where these tests run, so R is Debian's here: it takes the
place of Posit's below ``/opt/R``. RStudio and its proxies for the notebook server are left out; every other script of
repo2docker's build pack is run as it is.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.build import build
from builder.container.buildpacks import EnvironmentRBuildPack
from builder.container.engine import ContainerLimits, docker, pull
from builder.container.scripts import apt_script
from builder.facility import Bases
from builder.repository.spec import RepoSpec
from tests.testbed.git_repository import commit_files
from tests.testbed.launching import engine_answers
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from pathlib import Path

    from builder.facility import BaseChoice, Facility
    from builder.record import ImageRecord


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.skipif(not engine_answers(), reason="needs a container engine"),
]

DEBIAN_R = """
mkdir -p /opt/R/{version}/lib /opt/R/{version}/bin && \\
ln -s /usr/lib/R /opt/R/{version}/lib/R && \\
ln -s /usr/bin/R /opt/R/{version}/bin/R && \\
ln -s /usr/bin/Rscript /opt/R/{version}/bin/Rscript && \\
mkdir -p /srv/packages/src/contrib && touch /srv/packages/src/contrib/PACKAGES && \\
ln -s /usr/bin/R /usr/bin/Rscript /usr/local/bin
"""
ABOUT = "Title: A\nDescription: A.\nLicense: MIT\nAuthor: A\nMaintainer: A <a@example.org>\n"
FILES = {
    "runtime.txt": "r-4.4-2024-05-01\n",
    "apt.txt": "tree\n",
    "install.R": 'install.packages("mini", repos = NULL, type = "source")\n',
    "DESCRIPTION": "Package: analysis\nVersion: 0.1\n" + ABOUT,
    "NAMESPACE": "export(answer)\n",
    "R/answer.R": "answer <- function() 42\n",
    "mini/DESCRIPTION": "Package: mini\nVersion: 1.0\n" + ABOUT,
    "mini/NAMESPACE": "export(hello)\n",
    "mini/R/hello.R": 'hello <- function() "hello"\n',
    "postBuild": '#!/bin/sh\nRscript -e "cat(analysis::answer())" > made.txt\n',
}
KERNEL = """
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="ir", startup_timeout=120)
client.execute_interactive("cat(mini::hello(), analysis::answer())")
manager.shutdown_kernel(now=True)
"""
QUESTIONS = f"""
/srv/jupyter/bin/python - <<'END'
{KERNEL}
END
echo
/srv/jupyter/bin/jupyter-kernelspec list | awk '{{print $1, $2}}' | grep ^ir
echo "$R_HOME $R_LIBS_USER $LD_LIBRARY_PATH $NB_PYTHON_PREFIX"
bash -lc 'echo "$PATH"' | grep -o '[^:]*rstudio[^:]*'
cat made.txt; echo
dpkg-query --show --showformat '${{db:Status-Status}}\\n' r-base-core tree
stat -c %U /var/log/shiny-server /run/shiny-server.pid
"""


class DebianR(EnvironmentRBuildPack):
    """The build pack for R, but for what comes from servers that are not reached."""

    def get_rspm_snapshot_url(self, snapshot_date: date, max_days_prior: int = 7) -> str:
        return "file:///srv/packages"

    def get_build_scripts(self) -> list[tuple[str, str]]:
        found = []
        for user, text in super().get_build_scripts():
            script = text
            if "wget --quiet" in script:
                packages = apt_script(("r-base-core", "r-cran-irkernel", "r-cran-remotes"))
                script = f"{packages} && {DEBIAN_R.format(version=self.r_version).strip()}"
            elif "rstudio.deb" in script or " -m pip " in script:
                continue
            lines = [line for line in script.splitlines() if "install.packages(" not in line]
            found.append((user, "\n".join(lines)))
        return found


def make(directory: Path, files: Mapping[str, str], facility: Facility, base: BaseChoice) -> ImageRecord:
    commit_files(directory, files)
    return build(RepoSpec(str(directory)), Bases.only(base), facility)


def test_an_r_repository(
    tmp_path: Path, facility: Facility, real_base: BaseChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.container.buildpacks.EnvironmentRBuildPack", DebianR)
    record = make(tmp_path / "r", FILES, facility, real_base)
    r = "R 4.4 and RStudio, packages as of 2024-05-01"
    assert [layer.what for layer in record.layers if layer.source != "base"] == [
        r,
        "Debian packages: tree",
        "repository",
        "env.json",
        "packages of install.R, DESCRIPTION",
        "what postBuild made",
    ]
    assert not record.reproducible
    name = f"{record.image.rpartition(':')[0]}@{record.digest}"
    try:
        pull(name)
        lines = docker("run", "--rm", "--network=none", name, "sh", "-c", QUESTIONS).splitlines()
    finally:
        docker("rmi", "--force", name)
    # Debian's R does not care for R_HOME, and says so.
    assert [line for line in lines if not line.startswith("WARNING: ignoring environment value")] == [
        "hello 42",
        "ir /srv/kernels/share/jupyter/kernels/ir",
        "/opt/R/4.4.2/lib/R /srv/rlibs /opt/R/4.4.2/lib/R/lib /srv/env",
        "/usr/lib/rstudio-server/bin/",
        "42",
        "installed",
        "installed",
        "jovyan",
        "jovyan",
    ]
    without = replace(facility, containers=ContainerLimits(engine=False))
    fork = make(tmp_path / "fork", FILES, without, real_base)
    assert (fork.digest, [layer.what for layer in fork.layers]) == (
        record.digest,
        [layer.what for layer in record.layers],
    )
    other = make(tmp_path / "other", {"runtime.txt": FILES["runtime.txt"]}, without, real_base)
    (mounted,) = [layer for layer in other.layers if layer.source == "mounted"]
    assert mounted.what == r
    assert mounted.digest in {layer.digest for layer in record.layers}
