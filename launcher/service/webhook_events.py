"""What webhooks say: the messages of GitHub, GitLab and registries, and which of them a site lets in.

Only what is needed of a message is named here; there may be anything else in it.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from builder.repository.addresses import comparable

if TYPE_CHECKING:
    from launcher.site_config import Webhooks

_PLAIN = r"^[^\x00-\x1f\x7f]*$"
Text = Annotated[str, StringConstraints(max_length=2000, pattern=_PLAIN)]
CommitId = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
_BRANCH = "refs/heads/"


class _Said(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class GitHubRepository(_Said):
    """The repository of a push at GitHub."""

    clone_url: Text


class GitHubPush(_Said):
    """GitHub's ``push`` event, and its ``ping``, which has nothing of it."""

    ref: Text | None = None
    after: CommitId | None = None
    repository: GitHubRepository | None = None


class GitLabProject(_Said):
    """The project of a push at GitLab."""

    git_http_url: Text


class GitLabPush(_Said):
    """GitLab's push event."""

    ref: Text | None = None
    after: CommitId | None = None
    project: GitLabProject | None = None


class RegistryTarget(_Said):
    """What an event of a registry is about."""

    repository: Text | None = None
    tag: Text | None = None


class RegistryEvent(_Said):
    """One event of CNCF Distribution's notifications."""

    action: Text | None = None
    target: RegistryTarget | None = None


class HarborResource(_Said):
    """One artifact of an event of Harbor."""

    tag: Text | None = None


class HarborRepository(_Said):
    """The repository of an event of Harbor."""

    repo_full_name: Text


class HarborData(_Said):
    """What an event of Harbor is about."""

    resources: list[HarborResource] = []
    repository: HarborRepository | None = None


class RegistryNotification(_Said):
    """Events of CNCF Distribution (``events``), or one of Harbor (``type`` and ``event_data``)."""

    events: list[RegistryEvent] = []
    type: Text | None = None
    event_data: HarborData | None = None

    def pushed(self) -> frozenset[tuple[str, str]]:
        """Return the repositories and tags that were pushed."""
        found = {
            (event.target.repository or "", event.target.tag or "")
            for event in self.events
            if event.action == "push" and event.target
        }
        data = self.event_data
        if self.type == "PUSH_ARTIFACT" and data and data.repository:
            found |= {(data.repository.repo_full_name, resource.tag or "") for resource in data.resources}
        return frozenset(found)


@dataclass(frozen=True)
class Push:
    """A commit that is the new head of a branch."""

    url: str
    branch: str
    commit: str


def push_of(said: GitHubPush | GitLabPush) -> Push | None:
    """Return the push of a branch; ``None`` for a tag, for a branch that was deleted, and for what is no push."""
    if isinstance(said, GitHubPush):
        url = said.repository.clone_url if said.repository else ""
    else:
        url = said.project.git_http_url if said.project else ""
    ref, commit = said.ref or "", said.after or ""
    if not url or not ref.startswith(_BRANCH) or not commit.strip("0"):
        return None
    return Push(url, ref.removeprefix(_BRANCH), commit)


def lets_in(webhooks: Webhooks, push: Push, url: str) -> bool:
    """Say whether a site wants to build a push of the repository at ``url``: both lists must have a fitting glob."""
    name = comparable(url)
    patterns = (pattern.lower().removesuffix(".git") for pattern in webhooks.repositories)
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) and any(
        fnmatch.fnmatchcase(push.branch, pattern) for pattern in webhooks.branches
    )
