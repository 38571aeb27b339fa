"""repo2docker's build packs on top of a finished environment image: only the steps that run code are left.

The layers of Debian, Python, packages and the repository are made without running anything, so of repo2docker's steps
these remain::

    build       R or Julia itself      as root and as the user, on the base alone: the layer is everybody's
    preassemble packages of apt.txt    as root, on that
    assemble    install.R, DESCRIPTION, Project.toml     as the user, in the repository
    postBuild                                            as the user, in the repository

What a language's build pack inherits (conda, Python, packages for all) is cut off by :class:`OnEnvironment`, which
stands before those parents in the order of methods, so that ``super()`` in repo2docker's own code ends there. The
current directory is not looked at: what the files say is in :class:`~builder.environment.spec.ContainerSteps`.

repo2docker takes the classes of :func:`build_pack` in ``Repo2Docker.buildpacks``; casabinder asks them for their
scripts and runs these itself, because the engine's image builder can't be held to limits (see
docs/explanation/container-path.md). ``render`` writes the same steps as a Dockerfile, for people.
"""

from __future__ import annotations

import posixpath
import shlex
import textwrap
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from string import Template
from typing import TYPE_CHECKING, ClassVar, TypeVar

from repo2docker.buildpacks import BaseImage, JuliaProjectTomlBuildPack, RBuildPack
from repo2docker.buildpacks.python import PythonBuildPack
from repo2docker.semver import find_semver_match

from builder.container.scripts import ROOT_PATH, apt_script, check_steps, post_build_script
from builder.environment.spec import ContainerSteps
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

KERNELS = "/srv/kernels"
"""Where the kernels of other languages are registered: the user may not write to the analysis environment."""
_KERNEL_PATH = f"{KERNELS}/share/jupyter"
# Into the notebook server's environment, where its proxies are looked for; all they depend on is there already.
_SERVER_PIP = (
    "${KERNEL_PYTHON_PREFIX}/bin/python -m pip --python /srv/jupyter/bin/python install "
    "--only-binary=:all: --no-deps --no-compile"
)
# They say where kernels are installed and what is downloaded: in the image they would move the server's own data.
_ONLY_WHILE_BUILDING = {
    "JULIA_ARCH",
    "JULIA_ARCH_SHORT",
    "JULIA_VERSION",
    "JUPYTER",
    "JUPYTER_DATA_DIR",
    "NB_PYTHON_PREFIX",
}
_AS_USER = "setpriv --reuid=1000 --regid=1000 --init-groups /bin/sh -ec"
_QUESTIONS = {"r": "which states of R's packages there are", "julia": "which versions of Julia there are"}
_PATIENCE = 60.0  # seconds for a server that says which versions there are

T = TypeVar("T")
Script = tuple[str, str]


class EnvironmentBuildPack(BaseImage):  # type: ignore[misc]  # repo2docker has no type hints
    """The steps of one repository, on the image that it is made with."""

    steps: ClassVar[ContainerSteps] = ContainerSteps()

    def __init__(self, base_image: str, platform: str = "linux/amd64") -> None:
        super().__init__(base_image)
        self.platform = platform

    def detect(self) -> bool:
        return True

    def get_preassemble_scripts(self) -> list[Script]:
        return [("root", apt_script(self.steps.apt))] if self.steps.apt else []

    def get_post_build_scripts(self) -> list[str]:
        return [self.steps.post_build] if self.steps.post_build else []

    def get_start_script(self) -> None:
        """Of the image's entry point: it finds ``start`` itself."""

    def render(self, build_args: Mapping[str, str] | None = None) -> str:  # noqa: ARG002 - repo2docker's signature
        lines = [f"FROM {self.base_image}"]
        exports = " && \\\n".join(_exports(self))
        for user, script in self.get_build_scripts():
            lines += [f"USER {user}", f"RUN {exports} && \\\n{_dedented(script)}"]
        lines += [f"ENV {name}={value}" for name, value in _variables(self)]
        for user, script in self.get_preassemble_scripts():
            lines += [f"USER {user}", f"RUN {script}"]
        lines += ["USER 1000:1000", "WORKDIR ${REPO_DIR}"]
        lines += [f"RUN {exports} && \\\n{_dedented(script)}" for _, script in self.get_assemble_scripts()]
        lines += [f"RUN {post_build_script(path)}" for path in self.get_post_build_scripts()]
        return "\n".join(lines) + "\n"


class OnEnvironment(PythonBuildPack):  # type: ignore[misc]
    """Where the build pack of a language ends: nothing of conda and Python, whose work is done, is inherited."""

    def get_build_env(self) -> list[tuple[str, str]]:
        return [("APP_BASE", "/srv"), ("NB_PYTHON_PREFIX", KERNELS)]

    def get_env(self) -> list[tuple[str, str]]:
        return []

    def get_path(self) -> list[str]:
        return []

    def get_packages(self) -> set[str]:
        return set()

    def get_build_scripts(self) -> list[Script]:
        packages = self.get_packages()
        scripts = [("root", apt_script(packages))] if packages else []
        kernels = f"install -d -o 1000 -g 1000 {KERNELS} {KERNELS}/share {_KERNEL_PATH} {_KERNEL_PATH}/kernels"
        # Terminals are login shells, for which Debian sets the path anew; after the base's own file in that directory.
        path = ":".join(self.get_path())
        profile = f"""echo 'export PATH="$PATH:'"{path}"'"' > /etc/profile.d/language.sh"""
        return [*scripts, ("root", f"{kernels} && {profile}")]

    def get_build_script_files(self) -> dict[str, str]:
        return {}

    def get_preassemble_script_files(self) -> dict[str, str]:
        return {}

    def get_assemble_scripts(self) -> list[Script]:
        return []


class EnvironmentRBuildPack(EnvironmentBuildPack, RBuildPack, OnEnvironment):  # type: ignore[misc]
    """R, RStudio and Shiny Server with the user's packages; R is Posit's for Debian, as ours is no Ubuntu."""

    @property
    def runtime(self) -> tuple[str, str | None, date | None]:
        day = datetime.fromisoformat(self.steps.snapshot).date() if self.steps.snapshot else None
        return "r", self.steps.version or None, day

    @property
    def checkpoint_date(self) -> date:
        """The day of the packages; where none is stated, two days ago, as repo2docker has it for ``DESCRIPTION``."""
        return self.runtime[2] or (datetime.now(UTC) - timedelta(days=2)).date()

    @property
    def r_version(self) -> str:
        try:
            return str(super().r_version)
        except RuntimeError as error:
            raise CasabinderError(
                f"runtime.txt: there is no R {self.steps.version}; write r-4.4, or a version in full such as r-4.4.2"
            ) from error

    def get_packages(self) -> set[str]:
        # The last three are used by the scripts; the image that repo2docker starts from has them.
        return {*super().get_packages(), "gettext-base", "unzip", "wget"}

    def get_build_scripts(self) -> list[Script]:
        scripts = []
        for owner, text in super().get_build_scripts():
            user, script = owner, text.replace("/r/ubuntu-", "/r/debian-")
            if "pip install" in script:
                user, script = "root", script.replace("pip install", _SERVER_PIP)
            scripts.append((user, script))
        return scripts

    def get_assemble_scripts(self) -> list[Script]:
        options = "--no-save --no-restore --no-init-file --no-environ"
        scripts = []
        if self.steps.install:
            scripts.append(("${NB_USER}", f"Rscript {options} ./{self.steps.install}"))
        if self.steps.project:
            directory = posixpath.dirname(self.steps.project)
            go = f"cd ./{directory} && " if directory else ""
            scripts.append(("${NB_USER}", f'{go}R {options} --quiet -e "remotes::install_local()"'))
        return scripts


class EnvironmentJuliaBuildPack(EnvironmentBuildPack, JuliaProjectTomlBuildPack, OnEnvironment):  # type: ignore[misc]
    """Julia, IJulia and the packages of the repository's project."""

    julia_version = ""  # of repo2docker's build environment; known only to get_build_scripts, which has to ask for it

    def newest_version(self) -> str:
        """Return the newest version that fits: repo2docker's choice, among those that Julia's server lists."""
        compat = self.steps.version.strip() or "1.6"
        match = find_semver_match(compat, self.all_julias)
        if match is None:
            raise CasabinderError(f"{self.steps.project}: there is no Julia {compat}; change julia of [compat]")
        return str(match)

    def get_build_scripts(self) -> list[Script]:
        version = f"export JULIA_VERSION={self.newest_version()}"
        scripts = [(user, _dedented(script)) for user, script in super().get_build_scripts()]
        return [(user, f"{version} && {text}" if "JULIA_VERSION" in text else text) for user, text in scripts]

    @property
    def project_dir(self) -> str:
        directory = posixpath.dirname(self.steps.project)
        return f"${{REPO_DIR}}/{directory}" if directory else "${REPO_DIR}"

    def get_build_env(self) -> list[Script]:
        return [*super().get_build_env(), ("JUPYTER", "${KERNEL_PYTHON_PREFIX}/bin/jupyter")]


def build_pack(steps: ContainerSteps) -> type[EnvironmentBuildPack]:
    """Return the build pack for ``steps``; its ``base_image`` is the image to run on, by digest.

    Raises :class:`CasabinderError` for a package that Debian could not have, and for versions that nobody has.
    """
    check_steps(steps)
    kinds = {"": EnvironmentBuildPack, "r": EnvironmentRBuildPack, "julia": EnvironmentJuliaBuildPack}
    kind = type("BuildPackOfRepository", (kinds[steps.buildpack],), {"steps": steps})
    if steps.buildpack == "r":
        kind("").r_version  # noqa: B018  # a version that does not exist is said now, not when it is installed
    return kind


def build_script(pack: EnvironmentBuildPack) -> str:
    """Return one shell script, for root, of all that a build pack runs on the base, each part as its own user.

    Asks the language's server for versions. Raises :class:`CasabinderError` when it does not answer.
    """
    scripts = _asked(pack.get_build_scripts, _QUESTIONS[pack.steps.buildpack])
    return "\n".join([*_exports(pack), *(_part(*script) for script in scripts)])


def assemble_script(pack: EnvironmentBuildPack) -> str:
    """Return one shell script, for the user and in the repository, of what a build pack runs there; "" for nothing."""
    scripts = [_dedented(script) for _, script in pack.get_assemble_scripts()]
    return "\n".join([*_exports(pack), *scripts]) if scripts else ""


def run_environment(pack: EnvironmentBuildPack, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a build pack adds to the ``environment`` of an image, references resolved."""
    known, added = dict(environment), {}
    for name, value in _variables(pack):
        parts = Template(value).substitute(defaultdict(str, known)).split(":")
        # An empty part of a search path is the current directory, which is anybody's.
        known[name] = added[name] = ":".join(part for part in parts if part)
    return added


def _variables(pack: EnvironmentBuildPack) -> list[tuple[str, str]]:
    """Return the variables (name, text with references) of the finished image."""
    if not pack.steps.buildpack:
        return []
    kept = [(name, value) for name, value in pack.get_build_env() if name not in _ONLY_WHILE_BUILDING]
    found = [*kept, *pack.get_env()]
    if pack.get_path():
        found.append(("PATH", ":".join(["${PATH}", *pack.get_path()])))
    return [*found, ("JUPYTER_PATH", f"${{JUPYTER_PATH}}:{_KERNEL_PATH}")]


def _exports(pack: EnvironmentBuildPack) -> list[str]:
    return [*(f'export {name}="{value}"' for name, value in pack.get_build_env()), f"export {ROOT_PATH}"]


def _part(user: str, script: str) -> str:
    text = _dedented(script)
    return f"(\n{text}\n)" if user == "root" else f"{_AS_USER} {shlex.quote(text)}"


def _dedented(script: str) -> str:
    return textwrap.dedent(script.strip("\n")).rstrip()


def _asked(ask: Callable[[], T], what: str) -> T:
    """Return what repo2docker's code finds out; it waits without end, and its errors are of all kinds."""
    answers: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # noqa: BLE001  # raised again below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if answers:
        return answers[0]
    error = errors[0] if errors else None
    if isinstance(error, CasabinderError):
        raise error
    if error is None or isinstance(error, OSError) or "Failed to fetch" in str(error):
        raise CasabinderError(f"the server that says {what} does not answer: try again later") from error
    raise CasabinderError(f"repo2docker can't say {what}: {error}") from error
