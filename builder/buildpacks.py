"""repo2docker's build pack on top of a finished environment image: only the steps that run the repository's code.

The layers of Debian, Python, packages and the repository are made without running anything, so of repo2docker's steps
only two remain: the Debian packages of ``apt.txt`` (as root, on the base alone, so that the layer is everybody's) and
``postBuild`` (as the user, in the repository). :func:`build_pack` returns a class that repo2docker takes in
``Repo2Docker.buildpacks``; casabinder asks it for its scripts and runs them itself, because the engine's image builder
can't be held to limits (see docs/explanation/container-path.md). ``render`` writes the same steps as a Dockerfile, for
people.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from repo2docker.buildpacks import BaseImage

    from builder.environment.spec import ContainerSteps

_DEBIAN_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(=[A-Za-z0-9][A-Za-z0-9.+:~-]*)?")
_OTHER_LANGUAGES = {
    "r": "repo2docker installs R from packages that are made for Ubuntu",
    "julia": "repo2docker installs Julia into the conda environment that it makes",
    "nix": "repo2docker starts the notebook server from the user's own Nix shell",
}


def build_pack(steps: ContainerSteps) -> type[BaseImage]:
    """Return the build pack for ``steps``; its ``base_image`` is the environment image by digest.

    Raises :class:`CasabinderError` for a package that Debian could not have, and for the languages of
    ``steps.buildpack``, whose build packs can't stand on an environment image.
    """
    from repo2docker.buildpacks import BaseImage

    check_steps(steps)

    class EnvironmentBuildPack(BaseImage):  # type: ignore[misc]  # repo2docker has no type hints
        """The steps of one repository. They were read from its tree; the current directory is not looked at."""

        def detect(self) -> bool:
            return True

        def get_preassemble_scripts(self) -> list[tuple[str, str]]:
            return [("root", apt_script(steps.apt))] if steps.apt else []

        def get_post_build_scripts(self) -> list[str]:
            return [steps.post_build] if steps.post_build else []

        def render(self, build_args: Mapping[str, str] | None = None) -> str:  # noqa: ARG002 - repo2docker's signature
            lines = [f"FROM {self.base_image}"]
            for user, script in self.get_preassemble_scripts():
                lines += [f"USER {user}", f"RUN {script}"]
            lines += ["USER 1000:1000", "WORKDIR ${REPO_DIR}"]
            lines += [f"RUN {post_build_script(path)}" for path in self.get_post_build_scripts()]
            return "\n".join(lines) + "\n"

    return EnvironmentBuildPack


def check_steps(steps: ContainerSteps) -> None:
    """Raise :class:`CasabinderError` for steps that can't be run; needs no repo2docker."""
    if steps.buildpack:
        raise CasabinderError(
            f"{_OTHER_LANGUAGES[steps.buildpack]}, which can't be put on a casabinder base: "
            "give the repository a Dockerfile instead"
        )
    for package in steps.apt:
        if not _DEBIAN_PACKAGE.fullmatch(package):
            raise CasabinderError(f"apt.txt: {package!r} is not the name of a Debian package; write one name per line")


def apt_script(packages: tuple[str, ...]) -> str:
    """Return the shell script that installs Debian packages, the same for any order of them."""
    names = " ".join(sorted(set(packages)))
    return (
        'export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" && '
        "apt-get -qq -o APT::Update::Error-Mode=any update && "
        f"apt-get install --yes --no-install-recommends {names} && "
        "apt-get -qq clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log"
    )


def post_build_script(path: str) -> str:
    """Return the shell script that runs ``postBuild``, as repo2docker does."""
    quoted = shlex.quote(f"./{path}")
    return f"chmod +x {quoted} && {quoted}"
