"""Reads from the environment which CI this is and what it says of the commit: its repository's address, its ref.

The address is the public one, as somebody who clicks names it: with it the image gets the name that is looked for.
Sources: https://docs.github.com/actions/reference/workflows-and-actions/variables,
https://docs.gitlab.com/ci/variables/predefined_variables/, https://plugins.jenkins.io/git/ and the variables of
Jenkins' multibranch jobs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from builder.repository.spec import SCP_LIKE, RepoSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

System = Literal["github", "gitlab", "jenkins", "plain"]


@dataclass(frozen=True)
class Surroundings:
    """What a CI says. ``url``, ``ref`` (full, as ``refs/heads/main``) and ``commit`` are empty where it says nothing.

    ``foreign`` is true for a pull request from a fork: code of somebody who may not push; ``doubtful`` where it may be
    one, and the CI does not say. ``summary`` and ``outputs`` are the files that GitHub wants these in.
    """

    system: System = "plain"
    url: str = ""
    ref: str = ""
    commit: str = ""
    foreign: bool = False
    doubtful: bool = False
    summary: Path | None = None
    outputs: Path | None = None


def read_surroundings(environment: Mapping[str, str]) -> Surroundings:
    """Return what the environment says of the CI that this is."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return _github(environment)
    if environment.get("GITLAB_CI") == "true":
        return _gitlab(environment)
    if environment.get("JENKINS_URL"):
        return _jenkins(environment)
    return Surroundings()


def public_address(url: str) -> str:
    """Return the https address for what a checkout calls its origin: without user, password and ``.git``.

    ``git@host:path`` and ``ssh://git@host/path`` become https, which is how people name what is public. A directory of
    the machine is no public address: ``""``.
    """
    if not url or RepoSpec(url).is_local or url.startswith("file:"):
        return ""
    match = None if "://" in url else SCP_LIKE.fullmatch(url)
    if match:
        url = f"https://{match['host']}/{match['path']}"
    elif urlsplit(url).scheme == "ssh":
        parts = urlsplit(url)
        url = f"https://{parts.hostname}{parts.path}"
    return re.sub(r"(\.git)?/*$", "", RepoSpec(url).public_url)


def with_origin(found: Surroundings, url: str) -> Surroundings:
    """Return the surroundings with the address of the checkout's origin where the CI states none."""
    return found if found.url else replace(found, url=public_address(url))


def _github(environment: Mapping[str, str]) -> Surroundings:
    repository = environment.get("GITHUB_REPOSITORY", "")
    server = environment.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
    name, event = environment.get("GITHUB_EVENT_NAME", ""), _event(environment)
    return Surroundings(
        system="github",
        url=f"{server}/{repository}" if repository else "",
        ref=environment.get("GITHUB_REF", ""),
        commit=environment.get("GITHUB_SHA", ""),
        foreign=_from_a_fork(name, event, repository),
        doubtful=_commented(name, event),
        summary=_path(environment.get("GITHUB_STEP_SUMMARY")),
        outputs=_path(environment.get("GITHUB_OUTPUT")),
    )


def _event(environment: Mapping[str, str]) -> object:
    try:
        return json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_bytes())
    except (KeyError, OSError, ValueError):
        return None


def _from_a_fork(name: str, event: Any, repository: str) -> bool:
    """Say whether the code of a pull request, or of a run that this one follows, is from another repository.

    What can't be read is taken for foreign. A run that follows another has all secrets, even if that one was a fork's.
    """
    try:
        if name.startswith("pull_request"):
            return bool(event["pull_request"]["head"]["repo"]["full_name"] != repository)
        if name == "workflow_run":
            return bool(event["workflow_run"]["head_repository"]["full_name"] != repository)
    except (KeyError, TypeError):
        return True
    return False


def _commented(name: str, event: Any) -> bool:
    """Say whether this was begun by a comment at a pull request: the event does not say where its head is."""
    try:
        return name == "issue_comment" and "pull_request" in event["issue"]
    except (KeyError, TypeError):
        return True


def _gitlab(environment: Mapping[str, str]) -> Surroundings:
    ref = environment.get("CI_MERGE_REQUEST_REF_PATH", "")
    if environment.get("CI_COMMIT_TAG"):
        ref = f"refs/tags/{environment['CI_COMMIT_TAG']}"
    elif environment.get("CI_COMMIT_BRANCH"):
        ref = f"refs/heads/{environment['CI_COMMIT_BRANCH']}"
    request = environment.get("CI_PIPELINE_SOURCE") == "merge_request_event"
    source = environment.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "")
    return Surroundings(
        system="gitlab",
        url=environment.get("CI_PROJECT_URL", ""),
        ref=ref,
        commit=environment.get("CI_COMMIT_SHA", ""),
        foreign=request and (not source or source != environment.get("CI_MERGE_REQUEST_PROJECT_ID")),
    )


def _jenkins(environment: Mapping[str, str]) -> Surroundings:
    fork = bool(environment.get("CHANGE_FORK"))
    branch = environment.get("GIT_BRANCH", "").removeprefix("origin/")
    if environment.get("CHANGE_ID"):  # the job of a pull request calls its branch PR-12, which no repository has
        branch = "" if fork else environment.get("CHANGE_BRANCH", "")
    tag = environment.get("TAG_NAME", "")
    return Surroundings(
        system="jenkins",
        url=public_address(environment.get("GIT_URL", "")),
        ref=f"refs/tags/{tag}" if tag else f"refs/heads/{branch}" if branch else "",
        commit=environment.get("GIT_COMMIT", ""),
        foreign=fork,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
