"""Image references (``host:port/team/image:tag@sha256:...``) as immutable values.

The grammar is the distribution specification's for repository names and tags ("Pulling manifests",
https://github.com/opencontainers/distribution-spec/blob/main/spec.md), the image specification's for digests
(descriptor.md), and Docker's rule for telling a registry from the first part of a path: it has a dot, a colon or an
upper-case letter, or it is ``localhost``.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from registry_sync.errors import InvalidReferenceError

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"
NAME_LENGTH_MAX = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[(?P<ipv6>[0-9a-fA-F:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?")
_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha512": re.compile(r"[0-9a-f]{128}")}


def validate_registry(registry: str) -> str:
    """Return ``registry`` (``host``, ``host:port`` or ``[ipv6]:port``); or raise :class:`InvalidReferenceError`."""
    match = _REGISTRY.fullmatch(registry)
    if match is None:
        raise InvalidReferenceError(f"{registry!r} is not a registry: give HOST or HOST:PORT, without https://")
    if match["ipv6"] is not None:
        try:
            ipaddress.IPv6Address(match["ipv6"])
        except ValueError as error:
            raise InvalidReferenceError(f"{registry!r} is not a registry: bad IPv6 address") from error
    if match["port"] is not None and not 0 < int(match["port"]) < 65536:
        raise InvalidReferenceError(f"{registry!r} is not a registry: its port is not between 1 and 65535")
    return registry


def validate_repository(name: str) -> str:
    """Return ``name`` if it is a repository name; raise :class:`InvalidReferenceError` if not."""
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidReferenceError(f"the repository name {name[:40]!r}... is longer than {NAME_LENGTH_MAX} characters")
    if _REPOSITORY.fullmatch(name) is None:
        raise InvalidReferenceError(
            f"{name!r} is not a repository name: use lower-case letters and digits, joined by '.', '_', '__' or '-', "
            "in parts joined by '/'"
        )
    return name


def validate_tag(tag: str) -> str:
    """Return ``tag`` if it is a tag; raise :class:`InvalidReferenceError` if not."""
    if _TAG.fullmatch(tag) is None:
        raise InvalidReferenceError(
            f"{tag!r} is not a tag: use 1 to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-'"
        )
    return tag


def validate_digest(digest: str) -> str:
    """Return ``digest`` if it is a sha256 or sha512 digest; raise :class:`InvalidReferenceError` if not."""
    algorithm, _, encoded = digest.partition(":")
    if algorithm not in _DIGESTS:
        raise InvalidReferenceError(f"{digest!r} is not a digest: only sha256:... and sha512:... are known")
    if _DIGESTS[algorithm].fullmatch(encoded) is None:
        length = 64 if algorithm == "sha256" else 128
        raise InvalidReferenceError(f"{digest!r} is not a digest: {algorithm} has {length} lower-case hex digits")
    return digest


def is_digest(reference: str) -> bool:
    """Say whether a manifest's reference is a digest; anything else is a tag (which cannot hold a colon)."""
    return ":" in reference


@dataclass(frozen=True)
class ImageReference:
    """Names an image in a registry: where it is, and optionally its tag, its digest or both.

    Example usage/behaviour::

        >>> reference = ImageReference.parse("registry.example:5000/team/analysis:v1")
        >>> reference.registry, reference.repository, reference.tag
        ('registry.example:5000', 'team/analysis', 'v1')
        >>> str(reference.with_tag("v2"))
        'registry.example:5000/team/analysis:v2'
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        validate_registry(self.registry)
        validate_repository(self.repository)
        if len(self.name) > NAME_LENGTH_MAX:
            raise InvalidReferenceError(f"the registry and repository {self.name[:40]!r}... exceed 255 characters")
        if self.tag is not None:
            validate_tag(self.tag)
        if self.digest is not None:
            validate_digest(self.digest)

    @classmethod
    def parse(cls, text: str, *, default_registry: str | None = None) -> ImageReference:
        """Read a reference; ``default_registry`` is for texts that name none (without it they are refused).

        As with Docker, ``docker.io/debian`` means ``docker.io/library/debian``. Raises
        :class:`InvalidReferenceError` naming the text and the part at fault.
        """
        rest, at, digest = text.partition("@")
        first, slash, path = rest.partition("/")
        registry: str | None = first
        if not slash or not _names_a_registry(first):
            registry, path = default_registry, rest
        if registry is None:
            raise InvalidReferenceError(f"{text!r} is not a full image reference: it names no registry (HOST/...)")
        path, colon, tag = path.partition(":")
        if registry == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        try:
            return cls(registry, path, tag if colon else None, digest if at else None)
        except InvalidReferenceError as error:
            raise InvalidReferenceError(f"{text!r} is not an image reference: {error}") from error

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def reference(self) -> str:
        """What to ask a registry's manifest endpoint for: the digest, or else the tag, or else ``latest``."""
        return self.digest or self.tag or DEFAULT_TAG

    def with_tag(self, tag: str) -> ImageReference:
        """Return the reference with this tag and no digest (a digest would no longer be known to fit)."""
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: str) -> ImageReference:
        """Return the reference with this digest; a tag stays, as a name for people."""
        return replace(self, digest=digest)

    def with_repository(self, repository: str) -> ImageReference:
        """Return the same tag and digest in another repository of the same registry."""
        return replace(self, repository=repository)


def _names_a_registry(part: str) -> bool:
    return part == "localhost" or "." in part or ":" in part or part != part.lower()
