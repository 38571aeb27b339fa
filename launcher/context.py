"""Turns a site's configuration and the command line into the objects that the builder and the base maker work with."""

from __future__ import annotations

import hashlib
import os
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from base_images.definition import CATALOGUE, Definition, catalogue, load_definition
from base_images.identity import Workshop, base_identity, base_repository
from builder.attachments.signature import Signer
from builder.container.engine import ContainerLimits
from builder.facility import BaseChoice, BaseOffer, Bases, Facility
from builder.locking.resolver import PackageIndex
from builder.package_pattern import PackagePattern
from builder.providers.known import named_by
from builder.repository.fetching import Fetching, GitCredentials
from launcher.bases.channels import ChannelMemory
from launcher.bases.history import CHANNELS, is_release_tag
from launcher.container import parse_memory
from launcher.site_config import Containers, Site, cache_directory, load_site
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from registry_sync.files import write_atomically
from registry_sync.open_store import open_store
from registry_sync.reference import ImageReference

if TYPE_CHECKING:
    from builder.repository.spec import RepoSpec


@dataclass(frozen=True)
class Context:
    """One command's surroundings: the site, the facility it builds for, and what makes its bases."""

    site: Site
    facility: Facility
    workshop: Workshop

    @property
    def catalogues(self) -> tuple[Path, ...]:
        """The directories that definitions of bases are read from; the site's own win."""
        return (CATALOGUE, *self.site.catalogues)

    def repository(self, text: str, ref: str, subdirectory: str) -> RepoSpec:
        """Return the repository that a person named: a path, a git URL, a DOI, or a record's page."""
        return named_by(text, ref, subdirectory, self.facility.fetching.hosts)

    def with_token(self, file: Path | None, spec: RepoSpec) -> Context:
        """Return the context in which a user's own token, in a file, is given to the repository's host."""
        if file is None:
            return self
        host = urlsplit(spec.url).netloc if spec.url.startswith(("https://", "http://")) else ""
        if not host:
            raise CasabinderError("--git-token-file is for repositories with an https URL; ssh uses your keys")
        fetching = replace(self.facility.fetching, credentials=GitCredentials(file, host))
        return replace(self, facility=replace(self.facility, fetching=fetching))

    def definition(self, name: str) -> Definition:
        """Return a base's definition by name."""
        return load_definition(name, self.catalogues)

    @property
    def channels(self) -> ChannelMemory:
        """What channels and dated tags of bases name in the site's registry."""
        return ChannelMemory(self.facility.store, self.facility.registry, self.facility.cache)

    def bases(self, stated: str | None = None) -> Bases:
        """Return the base that was named, or all that the facility offers, its default first.

        ``stated`` is a name of the catalogue, ``NAME:TAG`` of a release or a channel, an image reference, or a channel:
        all bases as it names them. A base that the channel has no release of is not offered, unless it is the default.
        """
        if stated and stated not in CHANNELS:
            return Bases((self._offer(stated),), stated=True)
        channel = stated or self.site.channel or ""
        others = [name for name in sorted(catalogue(self.catalogues)) if name != self.site.base]
        if channel:
            others = [name for name in others if self.channels.digest(self.base_repository(name), channel)]
        return Bases(tuple(self._offer(name, channel) for name in (self.site.base, *others)))

    def base_tags(self) -> set[tuple[str, str]]:
        """Return repository and tag of every base of the catalogue that this site builds on, and of its default."""
        tags = set()
        for name in {self.site.base, *catalogue(self.catalogues)}:
            if self.site.channel and name in catalogue(self.catalogues):
                tags.add((self.base_repository(name), str(self.site.channel)))
            else:
                choice = self._offer(name).choice
                tags.add((choice.repository, choice.reference))
        return tags

    def base_repository(self, name: str) -> str:
        """Return the repository of a base of the catalogue."""
        return base_repository(self.facility.prefix, name)

    def _offer(self, stated: str, channel: str = "") -> BaseOffer:
        """Return the base that a name of the catalogue, ``NAME:TAG`` or an image reference means."""
        name, _, tag = stated.partition(":")
        known = catalogue(self.catalogues)
        if name in known:
            definition = self.definition(name)
            tag = tag or channel or self.site.channel or ""
            reference = self._released(name, tag) if tag else base_identity(definition, self.workshop)
            choice = BaseChoice(self.facility.registry, self.base_repository(name), reference)
            made_for = tuple(map(PackagePattern.parse, definition.document.chosen_for))
            cuda = definition.cuda.version if definition.cuda else ""
            return BaseOffer(name, definition.python, choice, made_for, cuda)
        return self._elsewhere(stated)

    def _released(self, name: str, tag: str) -> str:
        """Return the digest of a release, or of what a channel names."""
        if tag not in CHANNELS and not is_release_tag(tag):
            raise CasabinderError(
                f"{name}:{tag} is no release: give {name}:{' or :'.join(CHANNELS)}, or the tag of a release, which "
                f"`casabinder base releases {name}` lists"
            )
        digest = self.channels.digest(self.base_repository(name), tag)
        if digest:
            return digest
        if tag in CHANNELS:
            raise CasabinderError(
                f"the channel {tag} of {name} names no release yet: make one with "
                f"`casabinder base release {name} --channel {tag}`"
            )
        raise CasabinderError(f"{name} has no release {tag}; `casabinder base releases {name}` lists what there is")

    def _elsewhere(self, name: str) -> BaseOffer:
        """Return the base that an image reference means."""
        if "/" not in name:
            known = ", ".join(sorted(catalogue(self.catalogues)))
            raise CasabinderError(f"there is no base {name!r}; the catalogue has {known}, or give an image reference")
        reference = ImageReference.parse(name)
        store = None
        if reference.registry != self.facility.registry:
            store = RegistryClient(reference.registry, ca_bundle=self.facility.index.ca_bundle)
        choice = BaseChoice(reference.registry, reference.repository, reference.reference, store)
        return BaseOffer(name, "", choice)


def open_context(site_file: Path | None = None, registry: str | None = None) -> Context:
    """Read the site's configuration, find the tools that scripts/bootstrap installed, and open the registry."""
    site = load_site(site_file)
    cache = cache_directory()
    tools = cache / "tools" / "bin"
    if tools.is_dir() and str(tools) not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = f"{os.environ.get('PATH', '')}{os.pathsep}{tools}"
    bundle = _ca_bundle(site.ca_certificates, cache)
    location = registry or site.registry
    store, prefix = open_store(location, ca_bundle=bundle)
    index = PackageIndex(url=site.package_index, ca_bundle=bundle)
    host = store.registry if isinstance(store, RegistryClient) else f"oci:{store.root.absolute()}"
    facility = Facility(
        store=store, registry=host, prefix=prefix, cache=cache, index=index, containers=_limits(site.containers)
    )
    facility = replace(facility, compression=site.layers.compression, layer_cache_bytes=site.layers.cache_bytes)
    if site.signing is not None:
        facility = replace(facility, signer=Signer(site.signing.key, site.signing.password))
    facility = replace(facility, fetching=Fetching(**site.repositories.model_dump(), ca_bundle=bundle))
    return Context(site, facility, Workshop(cache, index, site.additions.on_bases(site.ca_certificates)))


def _limits(stated: Containers) -> ContainerLimits:
    sizes = {"memory": parse_memory(stated.memory), "disk": parse_memory(stated.disk)}
    return ContainerLimits(**{**stated.model_dump(), **sizes})


def _ca_bundle(certificates: tuple[Path, ...], cache: Path) -> Path | None:
    """Write the system's certificates and the site's into one file, for programs that take just one."""
    if not certificates:
        return None
    system = ssl.get_default_verify_paths().cafile
    texts = []
    for path in (*([Path(system)] if system else []), *certificates):
        try:
            texts.append(path.read_text(encoding="utf-8").rstrip("\n") + "\n")
        except OSError as error:
            raise CasabinderError(f"the CA certificate {path} can't be read: {error.strerror}") from error
    content = "".join(texts).encode()
    bundle = cache / "certificates" / f"{hashlib.sha256(content).hexdigest()[:16]}.pem"
    if not bundle.exists():
        write_atomically(bundle, content)
    return bundle
