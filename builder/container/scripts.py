"""Checks the steps that an engine is asked to run, and writes their shell scripts; repo2docker is not needed here."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.environment.spec import ContainerSteps

ROOT_PATH = 'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"'
"""Debian's package scripts need the directories of root's commands, which are not on the image's path."""
_DEBIAN_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(=[A-Za-z0-9][A-Za-z0-9.+:~-]*)?")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/+-]*")
_DIGITS = re.compile(r"[0-9][0-9.]*")
_OLDEST_SNAPSHOT = "2018-12-07"  # repo2docker's RSPM_CUTOFF_DATE
_COMPAT = re.compile(r"(\^|~|>=|<=|≥|≤|=|<|>)? ?[0-9]{1,3}(\.[0-9]{1,5}){0,2}")


def check_steps(steps: ContainerSteps) -> None:
    """Raise :class:`CasabinderError` for steps that can't be run."""
    if steps.buildpack == "nix":
        raise CasabinderError(
            "default.nix is not supported: notebook server and workers would have to be started from its Nix shell, "
            "and those of casabinder are the image's own; list the packages in environment files, or give the "
            "repository a Dockerfile"
        )
    for package in steps.apt:
        if not _DEBIAN_PACKAGE.fullmatch(package):
            raise CasabinderError(f"apt.txt: {package!r} is not the name of a Debian package; write one name per line")
    if steps.buildpack == "julia" and steps.version and not _COMPAT.fullmatch(steps.version.strip()):
        raise CasabinderError(
            f"{steps.project}: julia = {steps.version!r} of [compat] is not understood; write one version such as "
            '"1.10" or "~1.10.2"'
        )
    if steps.buildpack == "r" and steps.version and not _DIGITS.fullmatch(steps.version):
        raise CasabinderError(f"runtime.txt: {steps.version!r} is not a version of R; write r-4.4")
    if steps.snapshot and steps.snapshot < _OLDEST_SNAPSHOT:
        raise CasabinderError(
            f"runtime.txt: R's packages as of {steps.snapshot} are kept by nobody; take {_OLDEST_SNAPSHOT} or later"
        )
    for path in (steps.install, steps.project):
        if not _PLAIN_PATH.fullmatch(path):
            raise CasabinderError(f"{path}: the directory's name has signs that a shell reads otherwise; rename it")


def apt_script(packages: Iterable[str]) -> str:
    """Return the shell script that installs Debian packages, the same for any order of them."""
    names = " ".join(sorted(set(packages)))
    return (
        f"export DEBIAN_FRONTEND=noninteractive {ROOT_PATH} && "
        "apt-get -qq -o APT::Update::Error-Mode=any update && "
        f"apt-get install --yes --no-install-recommends {names} && "
        "apt-get -qq clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log"
    )


def post_build_script(path: str) -> str:
    """Return the shell script that runs ``postBuild``, as repo2docker does."""
    quoted = shlex.quote(f"./{path}")
    return f"chmod +x {quoted} && {quoted}"


def what_language(steps: ContainerSteps) -> str:
    """Return the text for people of what a language's build pack installs for everybody."""
    version = f" {steps.version}" if steps.version else ""
    if steps.buildpack == "julia":
        return f"Julia{version}"
    day = steps.snapshot or "two days before the build"
    return f"R{version} and RStudio, packages as of {day}"


def what_packages(steps: ContainerSteps) -> str:
    """Return the text for people of what a language's build pack installs for this repository; "" for nothing."""
    files = [path for path in (steps.install, steps.project) if path]
    return f"packages of {', '.join(files)}" if files else ""
