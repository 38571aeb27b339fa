"""A site's HTCondor pool for one user: what the session is told about it, and the token with which it submits."""

from __future__ import annotations

import getpass
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.container import MEBIBYTE, parse_memory
from launcher.security.idtokens import SigningKey, mint
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.container import PoolDocument
    from launcher.site_config import Pool, Site

# The session process listens on the machine's own network, so that workers reach it at this address.
_LIKE_THE_SITE = ("collector", "schedd", "trust_domain", "universe", "address", "cores")


@dataclass(frozen=True)
class BatchPool:
    """The site's ``pool``, for the jobs of ``user``; tokens are good for ``seconds``."""

    site: Pool
    user: str
    seconds: int

    @classmethod
    def of_site(cls, site: Site, user: str | None = None) -> BatchPool:
        """Return the site's pool for a user (default: ``pool.user``, else who runs this).

        Raises :class:`CasabinderError` if the site has no HTCondor pool.
        """
        if site.pool.kind != "htcondor":
            raise CasabinderError(
                "this site has no HTCondor pool: describe it under `pool` in site.yaml, or take --pool local"
            )
        longest = site.service.launches.longest_seconds
        seconds = min(site.pool.token_seconds, longest) if longest else site.pool.token_seconds
        return cls(site.pool, user or site.pool.user or getpass.getuser(), seconds)

    @property
    def identity(self) -> str:
        """Who the pool takes the user for."""
        return f"{self.user}@{self.site.trust_domain}"

    def image(self, name: str) -> str:
        """Return an image's name (``HOST/PATH:TAG``) as the site's universe has it.

        It stays one by tag: HTCondor tags what it pulled for its cache, which Docker refuses for a reference by digest.
        """
        if self.site.universe == "docker":
            return name
        return f"{self.site.unpacked.rstrip('/')}/{name}" if self.site.unpacked else f"docker://{name}"

    def document(self, image: str, workers: int, maximum: int) -> PoolDocument:
        """Return ``CASABINDER_POOL`` of a session whose workers are jobs in ``image`` (by its immutable tag)."""
        told: PoolDocument = {"kind": "htcondor", "workers": workers, "maximum": maximum, "network": "host"}
        told["image"] = self.image(image)
        for name in _LIKE_THE_SITE:
            told[name] = getattr(self.site, name)
        told["memory"] = f"{parse_memory(self.site.memory) // MEBIBYTE}MiB"
        told["disk"] = f"{parse_memory(self.site.disk) // MEBIBYTE}MiB"
        told["accounting_group"] = self.site.accounting_group
        told["requirements"] = self.site.requirements
        told["keep_claim_seconds"] = self.site.keep_claim_seconds
        told["idle_seconds"] = self.site.idle_seconds
        told["directives"] = dict(self.site.directives)
        return told

    def token(self, clock: Callable[[], float] = time.time) -> str:
        """Return a new IDTOKEN of the user.

        Raises :class:`CasabinderError` if the signing key can't be used, or the user can't be one of the pool.
        """
        if self.site.signing_key is None or self.site.trust_domain is None:
            raise CasabinderError("a pool of the kind htcondor needs signing_key, trust_domain")
        key = SigningKey.load(self.site.signing_key, self.site.signing_key_id)
        return mint(key, self.user, self.site.trust_domain, now=clock(), seconds=self.seconds)
