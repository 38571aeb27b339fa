"""Makes the link of a launch page for what a CI has built: the branch or tag by name, else the commit.

The link states base and day as the build did, for they are part of the alias that a launch looks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builder.providers.known import parse_pasted
from builder.repository.spec import RepositoryError
from launcher.bases.history import CHANNELS
from launcher.service.pasted import launch_page, with_ref
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from builder.repository.spec import RepoSpec

_NAMED = ("refs/heads/", "refs/tags/")


class NoLinkError(CasabinderError):
    """No launch page asks for what was built; the message says why."""


def launch_link(
    service: str,
    spec: RepoSpec,
    bases: Collection[str],
    hosts: Mapping[str, str] | None = None,
    *,
    base: str = "",
    as_of: str = "",
) -> str:
    """Return the link at ``service`` (without ``/`` at its end) that asks for the image built of ``spec``.

    ``bases`` are the names of the catalogue; ``base`` and ``as_of`` are as the build was given them. Raises
    :class:`NoLinkError` where no link finds that image.
    """
    if spec.is_local:
        raise NoLinkError(f"{spec.url} is no public address")
    if spec.subdirectory:
        raise NoLinkError("a launch page builds the whole repository, and this is the image of a subdirectory")
    if base and base not in CHANNELS and base.partition(":")[0] not in bases:
        raise NoLinkError(f"a launch page takes the bases of its catalogue, and {base} is none of them")
    try:
        pasted = parse_pasted(spec.public_url, hosts)
    except RepositoryError as error:
        raise NoLinkError(str(error)) from error
    ref = next((spec.ref.removeprefix(kind) for kind in _NAMED if spec.ref.startswith(kind)), spec.ref)
    return service + launch_page(replace(pasted, spec=with_ref(pasted, ref)), {"base": base, "as_of": as_of})
