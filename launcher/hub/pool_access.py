"""What a hub's servers get of the site's HTCondor pool: its description, and a token of the person whose they are.

The hub's process reads the pool's signing key, no container ever sees it. (With ``pool.prepull`` the launch service
reads it too, for the account whose jobs bring images to nodes.) Where people log in, a server gets a token of its
person, under the name that they have in JupyterHub; temporary servers all get one of ``pool.user``. A token is renewed
when half of its life is over, for as long as the server runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from traitlets import Dict, HasTraits, Int

from launcher.pools.exposure import contact, docker_exposure, hub_exposure
from launcher.pools.image_source import SessionImage
from launcher.pools.site_pool import BatchPool, not_a_user, token_seconds
from launcher.security.idtokens import is_user
from launcher.site_config import Pool
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from launcher.container import PoolDocument
    from launcher.hub.vouching import LaunchRequest
    from launcher.site_config import Exposure, Site

HTCONDOR = "htcondor"


def check_hub_pool(site: Site) -> None:
    """Raise :class:`CasabinderError` unless the hub's servers can have workers in the site's pool."""
    if site.pool.kind != HTCONDOR:
        return
    if site.hub.mode == "anonymous" and site.pool.user is None:
        raise CasabinderError(
            "temporary servers need `pool.user`, the account that their jobs in the HTCondor pool belong to "
            "(or have people log in: `hub.mode: login`)"
        )
    exposure = hub_exposure(site)
    if site.hub.spawner == "docker" and exposure == "pod-ip":
        raise CasabinderError(
            "servers of JupyterHub do not share the network of this machine, where each could reach what listens on "
            "loopback: name the pool and `pool.address` otherwise than by loopback, and set `pool.exposure: host-port`"
        )
    if site.hub.spawner == "docker" and exposure == "sni":
        raise CasabinderError("`pool.exposure: sni` is for servers in Kubernetes: containers of Docker have host-port")
    if site.hub.spawner == "kubernetes" and exposure == "host-port":
        raise CasabinderError("`pool.exposure: host-port` is for servers in Docker: pods have pod-ip or sni")


def hub_pool_warning(site: Site) -> str:
    """Return what whoever runs the hub should know about who can be whom in the pool; nothing if all is well."""
    if site.pool.kind == HTCONDOR and site.hub.mode == "login" and site.hub.authenticator == "shared-password":
        return (
            "with `hub.authenticator: shared-password` whoever knows the password can take any name, and have jobs "
            "in the HTCondor pool in that name"
        )
    return ""


def hub_pool(site: Site) -> dict[str, Any]:
    """Return the spawner's traits for a site's pool; none where workers are local."""
    if site.pool.kind != HTCONDOR:
        return {}
    check_hub_pool(site)
    return {"pool": site.pool.model_dump(mode="json", exclude_defaults=True), "pool_seconds": token_seconds(site)}


class PoolMixin(HasTraits):
    """Comes before a spawner class."""

    pool = Dict(config=True, help="The site's HTCondor pool, as in site.yaml; without one, workers are local.")
    pool_seconds = Int(86_400, config=True, help="How long a user's token for the pool is good, in seconds.")

    mode: Any  # of VouchedMixin
    user: Any  # of JupyterHub's Spawner

    _renewal = 0.0  # when the token is due (seconds since 1970); a hub that has just started does not know
    _pool_of_image: BatchPool | None = None  # what `look_for_image` found, for the server that is being made

    @property
    def exposure(self) -> Exposure:
        """How workers reach the spawner's servers."""
        return docker_exposure(self.site_pool)

    @property
    def site_pool(self) -> Pool:
        """The site's pool."""
        return Pool.model_validate(self.pool) if self.pool else Pool()

    def batch(self) -> BatchPool | None:
        """Return the pool for the jobs of this server's user; none where workers are local."""
        if not self.pool:
            return None
        if self._pool_of_image is not None:
            return self._pool_of_image
        site = self.site_pool
        user = self.user.name if self.mode == "login" else site.user
        return BatchPool(site, str(user), self.pool_seconds)

    def look_for_image(self, request: LaunchRequest, labels: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Decide where the nodes take a request's image from, whose ``labels`` say whether it is for GPUs.

        It waits for the image as long as the site says, and tells ``say`` so. Raises :class:`CasabinderError` if it is
        not there in time.
        """
        batch = self.batch()
        if batch is not None:
            image = SessionImage(request.tag, request.env_id)
            self._pool_of_image = batch.with_gpus(None, labels).for_image(image, say)

    def pool_document(self, request: LaunchRequest, name: str, port: int) -> PoolDocument | None:
        """Return the pool of a request whose server is called ``name``, and whose scheduler is reached at ``port`` if
        one was published for it; none where its workers are local."""
        batch = self.batch()
        if batch is None or request.workers == 0:
            return None
        where = contact(batch.site, self.exposure, name=name, port=port)
        return batch.document(request.tag, request.workers, request.most_workers, where)

    def pool_token(self) -> str:
        """Return a new token of this server's user, and remember when it must be renewed; nothing without a pool.

        Raises :class:`CasabinderError` for a user who can't be one of the pool, and for a key that can't be used.
        """
        batch = self.batch()
        if batch is None:
            return ""
        if self.mode == "login" and not is_user(batch.user):
            raise CasabinderError(not_a_user(batch.user))
        token = batch.token()
        self._renewal = time.time() + self.pool_seconds / 2
        return token

    @property
    def pool_token_is_due(self) -> bool:
        """Whether the token of a server that runs must be renewed."""
        return bool(self.pool) and time.time() >= self._renewal
