"""GitLab projects: ``gl/<URL-encoded namespace and project>/<ref>``, fetched with git."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from builder.providers.provider import Pasted, display, escaped_and_ref, quoted, wrong_spec
from builder.repository.spec import RepoSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROJECT = re.compile(r"(?!-)[\w.-]+(/(?!-)[\w.-]+)+")
_FORM = "GROUP%2FPROJECT/REF"


@dataclass(frozen=True)
class GitLab:
    """gitlab.com, or a GitLab server at ``host``."""

    host: str = "https://gitlab.com"
    prefix: str = "gl"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        host = re.escape(urlsplit(self.host).netloc)
        return display(
            "GitLab.com" if self.host == GitLab.host else "GitLab",
            self.prefix,
            r"[^/]+/.+",
            rf"^(?:https?://)?{host}/(?<repo>[^/]+(?:/(?!-/|-$)[^/]+)+?)(?:\.git)?(?:/-/.*)?/?$",
            "GitLab repository or URL",
            "example: group/project or https://gitlab.com/group/project",
            encode=True,
            ref=True,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse ``group%2Fproject/ref``."""
        project, ref = escaped_and_ref(self.prefix, spec, _FORM)
        project = project.strip("/").removesuffix(".git")
        if not _PROJECT.fullmatch(project) or ".." in project.split("/"):
            raise wrong_spec(self.prefix, spec, _FORM)
        return RepoSpec(f"{self.host}/{project}.git", ref)

    def pasted(self, url: str) -> Pasted | None:
        """Recognise the address of a project, a branch, a file, a commit or a tag.

        A branch with a slash can't be told from the path behind it: the branch is taken to be the first segment.
        """
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.netloc != urlsplit(self.host).netloc:
            return None
        project, _, view = unquote(parts.path).strip("/").partition("/-/")
        project = project.removesuffix(".git")
        if not _PROJECT.fullmatch(project):
            return None
        match view.split("/"):
            case ["blob" | "tree" | "raw" | "blame" | "commit" | "tags", ref, *path]:
                return Pasted(self.prefix, f"{quoted(project)}/{ref}", "/".join(path))
            case ["merge_requests", number, *_] if number.isdecimal():
                return Pasted(self.prefix, f"{quoted(project)}/refs/merge-requests/{number}/head")
        return Pasted(self.prefix, f"{quoted(project)}/HEAD")
