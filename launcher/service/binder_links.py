"""Links in BinderHub's language: specs as they were sent, launch pages, where a commit can be looked at.

A spec is kept as it was sent (``git/https%3A%2F%2Fhost%2Frepo/main``): it is the audience of build tokens, and a
``%2F`` in it is not a ``/``.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

DEFAULT_BRANCHES = ("master", "main")
"""Names in old links that GitHub repositories have since renamed."""
_TREES = {"gh": "tree", "gl": "-/tree"}


def raw_spec(path: str, prefix: str) -> str:
    """Return the spec in a request's path behind ``prefix`` (``/build/gh``), without trailing slashes."""
    return path[path.index(prefix) + len(prefix) :].strip("/")


def launch_page(user: str, repo: str, path: str = "") -> str:
    """Return what a link of Binder before 2017 (``/repo/<user>/<repo>[/path]``) means; segments as they were sent."""
    page = f"/v2/gh/{quote(unquote(user), safe='')}/{quote(unquote(repo), safe='')}/master"
    return f"{page}?urlpath={quote(unquote(path), safe='')}" if path.strip("/") else page


def default_branch_spec(provider: str, spec: str) -> str | None:
    """Return the spec with ``HEAD`` for a GitHub branch that may have been renamed, or ``None`` for any other."""
    repository, _, ref = spec.rpartition("/")
    return f"{repository}/HEAD" if provider == "gh" and repository.count("/") == 1 and ref in DEFAULT_BRANCHES else None


def persistent_spec(provider: str, spec: str, ref: str, commit: str) -> str:
    """Return the spec that means this commit for ever: ``commit`` instead of ``ref``; a record's spec has no ref."""
    if provider == "gist" and spec.count("/") == 1:
        return f"{spec}/{commit}"
    for written in (ref, quote(ref, safe="")):
        if ref and spec.endswith(f"/{written}"):
            return f"{spec[: -len(written)]}{commit}"
    return spec


def ref_url(provider: str, repo: str, commit: str) -> str:
    """Return where people look at a commit: its page at GitHub or GitLab, else the repository."""
    if provider not in _TREES:
        return repo
    return f"{repo.removesuffix('.git')}/{_TREES[provider]}/{commit}"
