"""GitHub repositories: ``gh/user/repo/ref``, fetched with git, so that nobody's API quota counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from builder.providers.provider import Pasted, display, wrong_spec
from builder.repository.spec import RepoSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class GitHub:
    """GitHub, or a GitHub Enterprise server at ``host``."""

    host: str = "https://github.com"
    prefix: str = "gh"

    @property
    def display_config(self) -> Mapping[str, Any]:
        """The entry of the page."""
        host = re.escape(urlsplit(self.host).netloc)
        return display(
            "GitHub",
            self.prefix,
            r"[^/]+/[^/]+/.+",
            rf"^(?:https?://)?(?:www\.)?{host}/(?<repo>[^/]+/[^/]+?)(?:\.git)?(?:/.*)?$",
            "GitHub repository name or URL",
            "example: scikit-hep/scikit-hep-tutorials or https://github.com/scikit-hep/scikit-hep-tutorials",
            encode=False,
            ref=True,
        )

    def parse(self, spec: str) -> RepoSpec:
        """Parse ``user/repo/ref``; the ref may hold ``/``."""
        user, _, rest = spec.partition("/")
        repo, _, ref = rest.partition("/")
        repo = repo.removesuffix(".git")
        if not (_plain(user) and _plain(repo) and ref):
            hint = f"; did you mean {self.prefix}/{user}/{repo}/HEAD?" if user and repo and not ref else ""
            raise wrong_spec(self.prefix, spec, "USER/REPO/REF", hint)
        return RepoSpec(f"{self.host}/{user}/{repo}", unquote(ref))

    def pasted(self, url: str) -> Pasted | None:
        """Recognise the address of a repository, a branch, a file, a commit, a release or a pull request.

        A branch with a slash can't be told from the path behind it: the branch is taken to be the first segment.
        """
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.netloc.removeprefix("www.") != urlsplit(self.host).netloc:
            return None
        segments = [unquote(segment) for segment in parts.path.split("/") if segment]
        if len(segments) < 2:
            return None
        repository = f"{segments[0]}/{segments[1].removesuffix('.git')}"
        match segments[2:]:
            case ["blob" | "tree" | "raw" | "blame" | "edit", ref, *path]:
                return Pasted(self.prefix, f"{repository}/{ref}", "/".join(path))
            case ["commit" | "commits", ref, *path]:
                return Pasted(self.prefix, f"{repository}/{ref}", "/".join(path))
            case ["releases", "tag", *tag] if tag:
                return Pasted(self.prefix, f"{repository}/refs/tags/{'/'.join(tag)}")
            case ["pull", number, *_] if number.isdecimal():
                return Pasted(self.prefix, f"{repository}/refs/pull/{number}/head")
        return Pasted(self.prefix, f"{repository}/HEAD")


def _plain(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and name not in (".", "..") and not name.startswith("-")
