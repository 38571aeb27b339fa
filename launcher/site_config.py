"""A facility as data: ``site.yaml``, validated.

It is looked for where ``--site`` or ``CASABINDER_SITE`` points, else at ``<cache>/site.yaml`` (which
``scripts/bootstrap`` writes for the registry it starts), else the defaults below hold. Reference:
docs/reference/site-yaml.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from builder.documents import read_document
from launcher.additions import Additions, WebAddress
from launcher.pools.image_source import check_pattern
from launcher.settings import plain_environment
from registry_sync.errors import CasabinderError

Channel = Literal["edge", "stable"]
Exposure = Literal["host-port", "pod-ip", "sni"]
Memory = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Strict):
    """What one notebook server may use, its local Dask workers included; one for CUDA gets so many ``gpus``."""

    cpus: float = Field(default=2.0, gt=0)
    memory: Memory = "4G"
    workers: int = Field(default=4, ge=0)
    gpus: int = Field(default=0, ge=0)


class Containers(_Strict):
    """What the builder may do with a container engine, and what one of its containers may use."""

    engine: bool = True
    memory: Memory = "4G"
    cpus: float = Field(default=2.0, gt=0)
    processes: int = Field(default=512, ge=16)
    seconds: int = Field(default=1800, gt=0)
    disk: Memory = "2G"
    network: Literal["default", "none"] = "default"


class Repositories(_Strict):
    """What may be built, and how much of it may come. Patterns are globs over ``host/path``."""

    private_addresses: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    max_bytes: int = Field(default=2 * 10**9, gt=0)
    max_file_bytes: int = Field(default=10**9, gt=0)
    max_files: int = Field(default=100_000, gt=0)
    cache_bytes: int = Field(default=20 * 10**9, gt=0)
    hosts: dict[Literal["gh", "gist", "gl", "zenodo", "figshare", "dataverse", "hydroshare", "doi"], WebAddress] = {}


class Layers(_Strict):
    """How the layers of images are stored. zstd is for sites where everything that pulls images reads it.

    Beyond ``cache_bytes`` the layers in the cache that were not used for longest make room, and so do wheels.
    """

    compression: Literal["gzip", "zstd"] = "gzip"
    cache_bytes: int = Field(default=50 * 10**9, gt=0)


class Signing(_Strict):
    """The key that images are signed with: a PEM file of mode 600, and the file of its password if it has one."""

    key: Path
    password: Path | None = None


class Builds(_Strict):
    """What the launch service builds at once, and how long one build and its log may get."""

    concurrent: int = Field(default=2, ge=1)
    seconds: int = Field(default=3600, gt=0)
    queue: int = Field(default=500, ge=1)
    per_user: int = Field(default=20, ge=1)
    log_lines: int = Field(default=20_000, ge=100)
    keep_days: int = Field(default=90, ge=1)


class Quota(_Strict):
    """Servers of repositories whose ``host/path`` fits a glob; the last entry that fits decides."""

    pattern: str
    servers: int = Field(ge=0)


class Launches(_Strict):
    """How many servers may run (0: no limit), and how one is started. Limits of a server itself are ``limits``."""

    total: int = Field(default=0, ge=0)
    per_user: int = Field(default=5, ge=0)
    per_repository: int = Field(default=0, ge=0)
    quotas: tuple[Quota, ...] = ()
    seconds: int = Field(default=300, gt=0)
    retries: int = Field(default=2, ge=0)
    idle_seconds: int = Field(default=3600, ge=0)
    longest_seconds: int = Field(default=86_400, ge=0)


class Rate(_Strict):
    """How often one visitor who is not logged in may ask for a launch (``requests`` 0: no limit)."""

    requests: int = Field(default=60, ge=0)
    seconds: int = Field(default=3600, gt=0)


class Webhook(_Strict):
    """The file (mode 600) of the secret that a sender of webhooks shares with the site."""

    secret: Path


class Webhooks(_Strict):
    """Who may say that something was pushed, and what is built then: pushes to ``branches`` of ``repositories``, both
    globs (the latter over ``host/path``). Messages are remembered for ``remember_seconds`` and not taken again."""

    github: Webhook | None = None
    gitlab: Webhook | None = None
    registry: Webhook | None = None
    repositories: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    remember_seconds: int = Field(default=7 * 86_400, ge=3600)

    @property
    def hooks(self) -> tuple[Webhook, ...]:
        """Those that are stated."""
        return tuple(hook for hook in (self.github, self.gitlab, self.registry) if hook)

    def beside(self, file: Path) -> Webhooks:
        """Return the same with absolute paths, taken relative to a file."""
        senders = {"github": self.github, "gitlab": self.gitlab, "registry": self.registry}
        found = {name: Webhook(secret=file.parent / hook.secret) for name, hook in senders.items() if hook}
        return self.model_copy(update=found)


class Prebuild(_Strict):
    """What the launch service builds before anybody asks: the repositories of a ``list`` and so many ``popular`` ones,
    looked at every so many seconds."""

    list: Path | None = None
    popular: int = Field(default=0, ge=0)
    every_seconds: int = Field(default=86_400, ge=60)


class Prepull(_Strict):
    """Images that were built are brought to so many ``nodes`` (0: none), for ``seconds`` at most, as ``user``."""

    nodes: int = Field(default=0, ge=0)
    seconds: int = Field(default=600, ge=10)
    user: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9._-]{0,63}$")] | None = None


class Pool(_Strict):
    """Where Dask workers run: beside the notebook (``local``), or as jobs of an HTCondor pool.

    ``collector`` is ``HOST[:PORT]``, ``schedd`` the name under which the collector knows it. The users' IDTOKENs are
    signed with ``signing_key``, the file (mode 600) that the pool's collector has in its ``SEC_PASSWORD_DIRECTORY``
    under the name ``signing_key_id``. ``address`` is this machine as the pool's nodes reach it; how they reach a
    scheduler there, ``exposure`` says (:mod:`launcher.pools.exposure`): by a port of ``ports``, or by its name below
    ``domain`` (``NAME[:PORT]``). ``cores``, ``memory`` and ``disk`` are one worker's, ``gpus`` is what it may have at
    most; ``maximum`` is how many workers a session may have. Containers of the docker universe have the node's
    ``network`` (``host``) or one of their own (``nat``). In the container universe nodes find images where the pattern
    ``images`` says (:mod:`launcher.pools.image_source`).
    """

    kind: Literal["local", "htcondor"] = "local"
    collector: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?$")] | None = (
        None
    )
    schedd: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@-]+$")] | None = None
    trust_domain: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]+$")] | None = None
    signing_key: Path | None = None
    signing_key_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")] = "POOL"
    token_seconds: int = Field(default=86_400, ge=60)
    user: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9._-]{0,63}$")] | None = None
    universe: Literal["docker", "container"] = "docker"
    network: Literal["host", "nat"] = "host"
    images: Annotated[str, StringConstraints(pattern=r"^[^\s,\"']+$")] = "docker://{name}"
    images_seconds: int = Field(default=0, ge=0)
    images_fallback: Literal["none", "docker"] = "none"
    address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]+$")] = "127.0.0.1"
    exposure: Exposure | None = None
    ports: Annotated[str, StringConstraints(pattern=r"^\d{4,5}(-\d{4,5})?$")] = "30000-30999"
    domain: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$")] | None = None
    maximum: int = Field(default=20, ge=1)
    cores: int = Field(default=1, ge=1)
    memory: Memory = "2GiB"
    disk: Memory = "4GiB"
    gpus: int = Field(default=0, ge=0)
    accounting_group: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9._@-]|\{user\})*$")] = ""
    requirements: Annotated[str, StringConstraints(pattern=r"^[^\r\n]*$")] = ""
    keep_claim_seconds: int = Field(default=600, ge=0)
    idle_seconds: int = Field(default=1800, ge=0)
    directives: dict[str, str] = {}
    prepull: Prepull = Prepull()

    @model_validator(mode="after")
    def _complete(self) -> Pool:
        check_pattern(self.images)
        if self.network == "nat" and self.universe == "container" and self.images_fallback == "none":
            raise ValueError("network nat is for the docker universe: Apptainer runs workers in the node's own network")
        if self.kind == "htcondor":
            needed = ("collector", "schedd", "trust_domain", "signing_key")
            missing = [name for name in needed if getattr(self, name) is None]
            if missing:
                raise ValueError(f"a pool of the kind htcondor needs {', '.join(missing)}")
        if not self.port_range or self.port_range[0] < 1024 or self.port_range[-1] > 65535:
            raise ValueError(f"ports {self.ports} must be FIRST-LAST, from 1024 up to 65535")
        if self.exposure == "sni" and self.domain is None:
            raise ValueError("the exposure sni needs domain, below which the site's proxy has a name for each server")
        if self.exposure == "host-port" and self.on_loopback:
            raise ValueError("the exposure host-port needs address and collector that containers reach: not loopback")
        return self

    @property
    def port_range(self) -> range:
        """The ports of which each server gets one."""
        first, _, last = self.ports.partition("-")
        return range(int(first), int(last or first) + 1)

    @property
    def on_loopback(self) -> bool:
        """Whether the pool is on loopback of this machine, which a container with a network of its own can't reach."""
        hosts = (self.address, str(self.collector).partition(":")[0])
        return any(host.startswith("127.") or host in ("localhost", "::1") for host in hosts)


class Data(_Strict):
    """What notebooks and workers read data with.

    ``environment`` has plain settings, which everybody in the pool may read. ``token_command`` is a program with its
    arguments that writes a new token to its output, or to the file that it is told as ``{file}``; it runs in the
    session. ``bring`` says what `casabinder launch` takes along from its user's machine.
    """

    environment: dict[str, str] = {}
    token_command: tuple[Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$")], ...] = ()
    bring: tuple[Literal["token", "proxy"], ...] = ()

    @field_validator("environment")
    @classmethod
    def _plain(cls, environment: dict[str, str]) -> dict[str, str]:
        return plain_environment(environment)


class Service(_Strict):
    """The launch service: where people reach it, where it keeps its state, what it allows.

    ``url`` is what people's browsers see; the proxy listens on ``listen`` and ``port``. ``database`` is an SQLAlchemy
    URL without a password, ``database_password`` the file of one; without both it is SQLite below the cache. ``secret``
    is a file of 32 random bytes in hex, shared by all replicas (made below the cache if it is not stated).
    ``status_badges`` says whether everybody may see of public repositories whether they are built; unless it is stated
    that is so where nobody logs in.
    """

    url: WebAddress | None = None
    listen: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    database: str | None = None
    database_password: Path | None = None
    secret: Path | None = None
    name: str = "casabinder"
    banner: str = ""
    contact: str = ""
    cors: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    banned_networks: tuple[str, ...] = ()
    builds: Builds = Builds()
    launches: Launches = Launches()
    rate: Rate = Rate()
    status_badges: bool | None = None
    webhooks: Webhooks = Webhooks()
    prebuild: Prebuild = Prebuild()


class Home(_Strict):
    """The home directory of people who log in: kept between their servers, mounted where nothing else is."""

    persistent: bool = True
    path: str = "/home/jovyan"


class Hub(_Strict):
    """JupyterHub: ``anonymous`` gives everybody a temporary user, ``login`` uses the authenticator.

    ``settings`` are traits by class, as in JupyterHub's configuration (``{GitHubOAuthenticator: {client_id: ...}}``).
    """

    mode: Literal["anonymous", "login"] = "anonymous"
    spawner: Literal["docker", "kubernetes"] = "docker"
    authenticator: str = "shared-password"
    admins: tuple[str, ...] = ()
    home: Home = Home()
    settings: dict[str, dict[str, Any]] = {}


class Site(_Strict):
    """Everything that a facility decides. Paths are absolute or relative to the file."""

    registry: str = "127.0.0.1:5000/casabinder"
    base: str = "coffea-py313"
    channel: Channel | None = None
    catalogues: tuple[Path, ...] = ()
    ca_certificates: tuple[Path, ...] = ()
    package_index: str | None = None
    additions: Additions = Additions()
    limits: Limits = Limits()
    repositories: Repositories = Repositories()
    containers: Containers = Containers()
    layers: Layers = Layers()
    signing: Signing | None = None
    pool: Pool = Pool()
    data: Data = Data()
    service: Service = Service()
    hub: Hub = Hub()


def cache_directory() -> Path:
    """Return where everything that can be made again is kept: ``$CASABINDER_CACHE``, else ``~/.cache/casabinder``."""
    stated = os.environ.get("CASABINDER_CACHE")
    return Path(stated).expanduser().absolute() if stated else Path.home() / ".cache" / "casabinder"


def load_site(path: Path | None = None) -> Site:
    """Return the site's configuration; raise :class:`CasabinderError` naming the file and the entry at fault."""
    stated = path or (Path(os.environ["CASABINDER_SITE"]) if os.environ.get("CASABINDER_SITE") else None)
    file = (stated or cache_directory() / "site.yaml").absolute()
    if not file.exists():
        if stated:
            raise CasabinderError(f"there is no site configuration {file}")
        return Site()
    site = read_document(file, Site, "the site configuration")
    return site.model_copy(
        update={
            "catalogues": tuple(file.parent / entry for entry in site.catalogues),
            "ca_certificates": tuple(file.parent / entry for entry in site.ca_certificates),
            "additions": site.additions.beside(file),
            "signing": site.signing and _beside(file, site.signing),
            "pool": _pool_beside(file, site.pool),
            "service": _service_beside(file, site.service),
        }
    )


def _beside(file: Path, signing: Signing) -> Signing:
    password = signing.password and file.parent / signing.password
    return Signing(key=file.parent / signing.key, password=password)


def _pool_beside(file: Path, pool: Pool) -> Pool:
    return pool.model_copy(update={"signing_key": pool.signing_key and file.parent / pool.signing_key})


def _service_beside(file: Path, service: Service) -> Service:
    paths = {name: getattr(service, name) for name in ("database_password", "secret")}
    beside: dict[str, Any] = {name: path and file.parent / path for name, path in paths.items()}
    listed = service.prebuild.list and file.parent / service.prebuild.list
    beside["prebuild"] = service.prebuild.model_copy(update={"list": listed})
    return service.model_copy(update={**beside, "webhooks": service.webhooks.beside(file)})
