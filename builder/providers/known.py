"""All providers by prefix, and what a pasted address means."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from builder.providers.ckan import Ckan
from builder.providers.dataverse import Dataverse
from builder.providers.figshare import Figshare
from builder.providers.gist import Gist
from builder.providers.github import GitHub
from builder.providers.gitlab import GitLab
from builder.providers.hydroshare import HydroShare
from builder.providers.plain_git import PlainGit
from builder.providers.zenodo import Zenodo
from builder.repository.spec import RepositoryError, RepoSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.providers.provider import Archive, Pasted, Provider


_Hosted = TypeVar("_Hosted", GitHub, Gist, GitLab, Zenodo, Figshare, Dataverse, HydroShare)


def providers(hosts: Mapping[str, str] | None = None) -> Mapping[str, Provider]:
    """Return the providers by prefix, in the order of a menu; ``hosts`` replaces base URLs (by prefix, and ``doi``)."""
    git: tuple[Provider, ...] = (_at(GitHub(), hosts), _at(Gist(), hosts), PlainGit(), _at(GitLab(), hosts))
    return {provider.prefix: provider for provider in (*git, *archives(hosts).values())}


def archives(hosts: Mapping[str, str] | None = None) -> Mapping[str, Archive]:
    """Return the providers of records by prefix."""
    known: tuple[Archive, ...] = (
        _at(Zenodo(), hosts),
        _at(Figshare(), hosts),
        _at(Dataverse(), hosts),
        _at(HydroShare(), hosts),
        Ckan(),
    )
    return {archive.prefix: archive for archive in known}


def _at(provider: _Hosted, hosts: Mapping[str, str] | None) -> _Hosted:
    """Return the provider with the base URL and the DOI resolver that ``hosts`` states."""
    stated = {"host": (hosts or {}).get(provider.prefix), "doi": (hosts or {}).get("doi")}
    names = {field.name for field in fields(provider)}
    return replace(provider, **{name: url.rstrip("/") for name, url in stated.items() if url and name in names})


PROVIDERS: Mapping[str, Provider] = MappingProxyType(dict(providers()))
"""The providers at their usual hosts."""


def parse_spec(prefix: str, spec: str, hosts: Mapping[str, str] | None = None) -> RepoSpec:
    """Return what ``<prefix>/<spec>`` names; raise :class:`RepositoryError` for an unknown provider or a wrong spec."""
    known = providers(hosts) if hosts else PROVIDERS
    if prefix not in known:
        raise RepositoryError(f"there is no provider {prefix!r}; there are {', '.join(known)}")
    return known[prefix].parse(spec)


def parse_pasted(text: str, hosts: Mapping[str, str] | None = None) -> Pasted:
    """Return provider, spec and path of whatever a person pasted: a repository's page, a file's, a DOI, a git URL.

    Raises :class:`RepositoryError` when it is none of these.
    """
    text = text.strip()
    known = providers(hosts) if hosts else PROVIDERS
    order = [known[prefix] for prefix in known if prefix != "git"] + [known["git"]]
    try:
        for provider in order:
            found = provider.pasted(text)
            if found is not None:
                return found
    except ValueError as error:
        raise RepositoryError(f"{text!r} is not a URL: {error}") from error
    raise RepositoryError(f"{text!r} is neither the address of a repository nor a DOI")


def named_by(text: str, ref: str, subdirectory: str, hosts: Mapping[str, str] | None = None) -> RepoSpec:
    """Return what a person names at a command line: a path, a git URL, a DOI (bare or as URL), or a record's page.

    What exists as a directory is one, whatever it looks like.
    """
    if not Path(text).exists():
        for archive in archives(hosts).values():
            try:
                found = None if archive.prefix == "ckan" else archive.pasted(text)
            except ValueError:
                found = None
            if found is not None:
                return replace(archive.parse(found.spec), ref=ref, subdirectory=subdirectory)
    return RepoSpec(text, ref, subdirectory)
