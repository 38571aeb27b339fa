"""What a provider is: a way to name repositories, in a URL of ours and in the URLs that people paste.

A provider's name in URLs is its *prefix* (``gh``), what follows is the *spec* (``user/repo/ref``), both as in
BinderHub, so that its links work here. Parsing needs no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote

from builder.repository.spec import RepositoryError, RepoSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.repository.fetching import Fetching
    from builder.repository.spec import Commit


@dataclass(frozen=True)
class Pasted:
    """What a pasted URL names: a provider's prefix, its spec, and a file or directory in the repository (or ``""``)."""

    provider: str
    spec: str
    path: str = ""


class Provider(Protocol):
    """Names repositories of one kind."""

    @property
    def prefix(self) -> str:
        """The provider's name in URLs."""

    @property
    def display_config(self) -> Mapping[str, Any]:
        """What a page needs to ask for a repository: BinderHub's ``/api/repoproviders`` entry."""

    def parse(self, spec: str) -> RepoSpec:
        """Return what a spec names; raise :class:`RepositoryError` saying how it should look."""

    def pasted(self, url: str) -> Pasted | None:
        """Return what a pasted URL names if it is one of this provider's."""


class Archive(Provider, Protocol):
    """A provider of records: files without git, named by a DOI or an identifier."""

    def resolve(self, spec: RepoSpec, fetching: Fetching) -> Commit:
        """Ask the archive what the record holds; raise :class:`RepositoryError` if there is none."""


def wrong_spec(prefix: str, spec: str, form: str, hint: str = "") -> RepositoryError:
    """Return the sentence for a spec of the wrong form."""
    return RepositoryError(f"{prefix}/{spec} is not of the form {prefix}/{form}{hint}")


def quoted(text: str) -> str:
    """Return a text as one segment of a URL's path."""
    return quote(text, safe="")


def escaped_and_ref(prefix: str, spec: str, form: str) -> tuple[str, str]:
    """Split ``<URL-encoded text>/<ref>``; a ref may hold ``/``."""
    escaped, _, ref = spec.partition("/")
    if not escaped or not ref:
        hint = f"; did you mean {prefix}/{escaped}/HEAD?" if escaped else ""
        raise wrong_spec(prefix, spec, form, hint)
    return unquote(escaped), unquote(ref)


def display(
    name: str, prefix: str, validate: str, detect: str, label: str, placeholder: str, *, encode: bool, ref: bool
) -> dict[str, Any]:
    """Return a provider's entry for a page, in the shape of BinderHub's.

    ``validate`` and ``detect`` are JavaScript's regular expressions; ``detect`` takes the repository (``(?<repo>...)``)
    out of what was pasted.
    """
    return {
        "displayName": name,
        "id": prefix,
        "spec": {"validateRegex": validate},
        "detect": {"regex": detect},
        "repo": {"label": label, "placeholder": placeholder, "urlEncode": encode},
        "ref": {"enabled": ref, "default": "HEAD"},
    }
