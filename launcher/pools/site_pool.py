"""A site's HTCondor pool for one user: what the session is told about it, and the token with which it submits."""

from __future__ import annotations

import getpass
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from launcher.container import MEBIBYTE, WORKER_MINIMUM, parse_memory
from launcher.pools.exposure import contact, docker_exposure
from launcher.pools.gpus import wanted_gpus
from launcher.pools.image_source import find_placement, place
from launcher.security.idtokens import SigningKey, mint
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from launcher.container import PoolDocument
    from launcher.pools.image_source import Placement, SessionImage
    from launcher.site_config import Exposure, Pool, Site

_LIKE_THE_SITE = ("collector", "schedd", "trust_domain", "universe", "address", "cores")


@dataclass(frozen=True)
class BatchPool:
    """The site's ``pool``, for the jobs of ``user``; tokens are good for ``seconds``.

    ``placement`` is where the nodes take the session's image from, if that was looked at; each worker asks for ``gpus``
    whose driver supports the version ``cuda_driver`` of CUDA.
    """

    site: Pool
    user: str
    seconds: int
    placement: Placement | None = None
    gpus: int = 0
    cuda_driver: str = ""

    @classmethod
    def of_site(cls, site: Site, user: str | None = None) -> BatchPool:
        """Return the site's pool for a user (default: ``pool.user``, else who runs this).

        Raises :class:`CasabinderError` if the site has no HTCondor pool.
        """
        if site.pool.kind != "htcondor":
            raise CasabinderError(
                "this site has no HTCondor pool: describe it under `pool` in site.yaml, or take --pool local"
            )
        return cls(site.pool, user or site.pool.user or getpass.getuser(), token_seconds(site))

    @property
    def identity(self) -> str:
        """Who the pool takes the user for."""
        return f"{self.user}@{self.site.trust_domain}"

    @property
    def exposure(self) -> Exposure:
        """How workers reach a container of this machine."""
        return docker_exposure(self.site)

    def for_image(self, image: SessionImage, say: Callable[[str], None]) -> BatchPool:
        """Return the pool for one image, which is looked for where the nodes find it, and waited for.

        Raises :class:`CasabinderError` if it is not there in time.
        """
        return replace(self, placement=find_placement(self.site, image, say))

    def with_gpus(self, asked: int | None, labels: Mapping[str, str]) -> BatchPool:
        """Return the pool for workers with ``asked`` GPUs each; ``None``: as the image's ``labels`` say.

        Raises :class:`CasabinderError` if the site has fewer.
        """
        gpus, driver = wanted_gpus(asked, self.site.gpus, labels)
        return replace(self, gpus=gpus, cuda_driver=driver)

    def contact(self, name: str, port: int) -> str:
        """Return where workers reach the container ``name`` for which ``port`` is published, if it must be told."""
        return contact(self.site, self.exposure, name=name, port=port)

    def document(self, image: str, workers: int, maximum: int, contact: str = "") -> PoolDocument:
        """Return ``CASABINDER_POOL`` of a session whose workers are jobs in ``image`` (by its immutable tag), and reach
        its scheduler at ``contact`` (nothing: where it finds itself).

        The image stays one by tag: HTCondor tags what it pulled for its cache, which Docker refuses for one by digest.
        """
        told: PoolDocument = {"kind": "htcondor", "workers": workers, "maximum": maximum, "network": "host"}
        told["image"] = image
        for name in _LIKE_THE_SITE:
            told[name] = getattr(self.site, name)
        told["memory"] = f"{parse_memory(self.site.memory) // MEBIBYTE}MiB"
        told["disk"] = f"{parse_memory(self.site.disk) // MEBIBYTE}MiB"
        if self.placement is not None:
            told |= {"universe": self.placement.universe, "image": self.placement.image}
        elif self.site.universe == "container":
            told["image"] = place(self.site.images, image)
        if told["universe"] == "docker":
            told["network"] = self.site.network
        told |= {"gpus": self.gpus, "cuda_driver": self.cuda_driver}
        told["accounting_group"] = self.site.accounting_group.replace("{user}", self.user)
        told["requirements"] = self.site.requirements
        told["keep_claim_seconds"] = self.site.keep_claim_seconds
        told["idle_seconds"] = self.site.idle_seconds
        told["directives"] = dict(self.site.directives)
        if contact:
            told["contact"] = contact
        return told

    def token(self, clock: Callable[[], float] = time.time) -> str:
        """Return a new IDTOKEN of the user.

        Raises :class:`CasabinderError` if the signing key can't be used, or the user can't be one of the pool.
        """
        if self.site.signing_key is None or self.site.trust_domain is None:
            raise CasabinderError("a pool of the kind htcondor needs signing_key, trust_domain")
        key = SigningKey.load(self.site.signing_key, self.site.signing_key_id)
        return mint(key, self.user, self.site.trust_domain, now=clock(), seconds=self.seconds)


def not_a_user(name: str) -> str:
    """Return what to tell somebody whose name in JupyterHub can't be one in the pool."""
    return (
        f"{name!r} can't be a user of the HTCondor pool in which workers run: launch without Dask workers, "
        "or ask the people who run this service"
    )


def token_seconds(site: Site) -> int:
    """Return how long a token is good: as long as the site says, and no longer than any server may last."""
    longest = site.service.launches.longest_seconds
    return min(site.pool.token_seconds, longest) if longest else site.pool.token_seconds


@dataclass(frozen=True)
class WorkerLimits:
    """How many Dask workers a server may have: ``most`` at this site, of which its memory is enough for ``fitting``.

    Workers of a batch pool have memory of their own.
    """

    most: int
    fitting: int

    @classmethod
    def of_site(cls, site: Site, memory: int) -> WorkerLimits:
        """Return the limits of a server with ``memory`` bytes."""
        if site.pool.kind == "htcondor":
            return cls(site.pool.maximum, site.pool.maximum)
        return cls(site.limits.workers, memory * 3 // 4 // WORKER_MINIMUM)

    @property
    def maximum(self) -> int:
        """How many there may be."""
        return min(self.most, self.fitting)
