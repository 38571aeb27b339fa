"""DOIs: in what people paste, as a spec, and what they lead to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from builder.providers.provider import wrong_spec
from builder.repository.spec import RepositoryError, RepoSpec
from builder.repository.web import final_url

if TYPE_CHECKING:
    import httpx

_DOI = re.compile(r"10\.\d{4,9}/[^\s?#]+")
_ADDRESS = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:)?(?P<doi>10\.\d{4,9}/[^\s?#]+?)/?", re.IGNORECASE)


def find_doi(text: str) -> str | None:
    """Return the DOI that a text is: bare, ``doi:10...``, or a doi.org URL."""
    match = _ADDRESS.fullmatch(unquote(text.strip()))
    return match["doi"] if match else None


def parse_doi(prefix: str, spec: str, form: str) -> RepoSpec:
    """Return the record that a DOI names; raise :class:`RepositoryError` naming the ``form`` for anything else."""
    if not _DOI.fullmatch(spec):
        raise wrong_spec(prefix, spec, form)
    return RepoSpec(f"{prefix}:{spec}")


def landing(client: httpx.Client, resolver: str, doi: str) -> SplitResult:
    """Return the address that the ``resolver`` of DOIs leads to."""
    return urlsplit(final_url(client, f"{resolver}/{doi}", f"DOI {doi}"))


def landing_page(client: httpx.Client, resolver: str, doi: str, page: re.Pattern[str], what: str) -> re.Match[str]:
    """Return what ``page`` finds in the path that a DOI leads to; raise :class:`RepositoryError` if it is not there."""
    match = page.search(landing(client, resolver, doi).path)
    if not match:
        raise RepositoryError(f"the DOI {doi} does not lead to {what}")
    return match
