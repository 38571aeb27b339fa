"""What to do with what a person pasted: another ref in its spec, and the page that launches it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from launcher.refusal import RefusedError

if TYPE_CHECKING:
    from builder.providers.provider import Pasted

_REPOSITORY_SEGMENTS = {"gh": 2, "gist": 2, "gl": 1, "git": 1}
"""How many segments of a spec name the repository, by provider; what follows is the ref."""


def with_ref(pasted: Pasted, ref: str) -> str:
    """Return the spec with another ref, if one is stated; raise :class:`RefusedError` for records, which have none."""
    if not ref:
        return pasted.spec
    count = _REPOSITORY_SEGMENTS.get(pasted.provider)
    if count is None:
        raise RefusedError("a record has no branches: leave out `ref`")
    repository = "/".join(pasted.spec.split("/")[:count])
    return f"{repository}/{quote(ref, safe='/')}"


def launch_page(pasted: Pasted) -> str:
    """Return the address of the page that launches it, with the file that was pasted."""
    page = f"/v2/{pasted.provider}/{quote(pasted.spec, safe='/%:@+~')}"
    return f"{page}?labpath={quote(pasted.path, safe='')}" if pasted.path else page
