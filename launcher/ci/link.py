"""Makes the link of a launch page for what a CI has built: the branch or tag by name, else the commit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builder.providers.known import parse_pasted
from builder.repository.spec import RepositoryError
from launcher.service.pasted import launch_page, with_ref

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.repository.spec import RepoSpec

_NAMED = ("refs/heads/", "refs/tags/")


def launch_link(service: str, spec: RepoSpec, hosts: Mapping[str, str] | None = None) -> str:
    """Return the link at ``service`` (without ``/`` at its end); ``""`` for a repository that nobody else can reach."""
    if spec.is_local:
        return ""
    try:
        pasted = parse_pasted(spec.public_url, hosts)
    except RepositoryError:
        return ""
    ref = next((spec.ref.removeprefix(kind) for kind in _NAMED if spec.ref.startswith(kind)), spec.ref)
    return service + launch_page(replace(pasted, spec=with_ref(pasted, ref)))
