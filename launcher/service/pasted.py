"""What to do with what a person pasted: another ref in its spec, and the page that launches it.

The launch page does the same in the browser (``static/naming.js``); a test compares the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

from builder.providers.known import parse_pasted, providers
from builder.providers.provider import Pasted
from launcher.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REPOSITORY_SEGMENTS = {"gh": 2, "gist": 2, "gl": 1, "git": 1}
"""How many segments of a spec name the repository, by provider; what follows is the ref."""
OPENING = ("labpath", "filepath", "urlpath")
"""The parameters of a link that say what to open, the one that decides first (as in BinderHub)."""
_SHORT = re.compile(r"[\w.-]+/[\w.-]+")
_LINK = re.compile(r".*/v2/([a-z]+)/(.+)")


@dataclass(frozen=True)
class Named:
    """What a text names on the launch page: the repository, and what is to be opened (one of :data:`OPENING`)."""

    pasted: Pasted
    opens: Mapping[str, str] = field(default_factory=dict)


def understood(text: str, hosts: Mapping[str, str] | None = None) -> Named:
    """Return what the launch page understands by a text: a launch link of any BinderHub, ``user/repository`` of
    GitHub, or whatever :func:`parse_pasted` knows. Raises :class:`RepositoryError` when it is none of these."""
    text = text.strip()
    link = _launch_link(text)
    if link is not None and link.pasted.provider in providers(hosts):
        return link
    if _SHORT.fullmatch(text) and not text.startswith("10."):
        return Named(Pasted("gh", f"{text}/HEAD"))
    pasted = parse_pasted(text, hosts)
    return Named(replace(pasted, path=""), {"labpath": pasted.path} if pasted.path else {})


def with_ref(pasted: Pasted, ref: str) -> str:
    """Return the spec with another ref, if one is stated; raise :class:`RefusedError` for records, which have none."""
    if not ref:
        return pasted.spec
    count = _REPOSITORY_SEGMENTS.get(pasted.provider)
    if count is None:
        raise RefusedError("a record has no branches: leave out `ref`")
    repository = "/".join(pasted.spec.split("/")[:count])
    return f"{repository}/{quote(ref, safe='/')}"


def launch_page(pasted: Pasted, parameters: Mapping[str, str] | None = None) -> str:
    """Return the address of the page that launches it, with the file that was pasted, or with ``parameters``."""
    page = f"/v2/{pasted.provider}/{quote(pasted.spec, safe='/%:@+~')}"
    if parameters is None:
        return f"{page}?labpath={quote(pasted.path, safe='')}" if pasted.path else page
    query = "&".join(f"{_in_query(name)}={_in_query(value)}" for name, value in parameters.items() if value)
    return f"{page}?{query}" if query else page


def _launch_link(text: str) -> Named | None:
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    match = _LINK.fullmatch(parts.path) if parts.scheme in ("https", "http") else None
    if match is None:
        return None
    stated = parse_qs(parts.query)
    opens = {name: stated[name][0] for name in OPENING if name in stated}
    return Named(Pasted(match[1], match[2].rstrip("/")), dict(list(opens.items())[:1]))


def _in_query(text: str) -> str:
    return quote_plus(text, safe="/").replace("~", "%7E")
