"""A facility as data: ``site.yaml``, validated.

It is looked for where ``--site`` or ``CASABINDER_SITE`` points, else at ``<cache>/site.yaml`` (which
``scripts/bootstrap`` writes for the registry it starts), else the defaults below hold. Reference:
docs/reference/site-yaml.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from builder.documents import read_document
from registry_sync.errors import CasabinderError

WebAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^/@\s]+(/[^\s]*)?$")]
Memory = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Strict):
    """What one notebook server may use, its local Dask workers included."""

    cpus: float = Field(default=2.0, gt=0)
    memory: Memory = "4G"
    workers: int = Field(default=4, ge=0)


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
    """How the layers of images are stored. zstd is for sites where everything that pulls images reads it."""

    compression: Literal["gzip", "zstd"] = "gzip"


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


class Pool(_Strict):
    """Where Dask workers run: beside the notebook (``local``), or as jobs of an HTCondor pool.

    ``collector`` is ``HOST[:PORT]``, ``schedd`` the name under which the collector knows it. The users' IDTOKENs are
    signed with ``signing_key``, the file (mode 600) that the pool's collector has in its ``SEC_PASSWORD_DIRECTORY``
    under the name ``signing_key_id``. ``address`` is this machine as the pool's nodes reach it; on it the schedulers
    listen. In the container universe nodes find images, by their names, below ``unpacked``, or fetch them from the
    registry. ``cores``, ``memory`` and ``disk`` are one worker's, ``maximum`` is how many a session may have.
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
    unpacked: Annotated[str, StringConstraints(pattern=r"^/[^\s,]*$")] | None = None
    address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]+$")] = "127.0.0.1"
    maximum: int = Field(default=20, ge=1)
    cores: int = Field(default=1, ge=1)
    memory: Memory = "2GiB"
    disk: Memory = "4GiB"
    accounting_group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@-]*$")] = ""
    requirements: Annotated[str, StringConstraints(pattern=r"^[^\r\n]*$")] = ""
    keep_claim_seconds: int = Field(default=600, ge=0)
    idle_seconds: int = Field(default=1800, ge=0)
    directives: dict[str, str] = {}

    @model_validator(mode="after")
    def _complete(self) -> Pool:
        if self.kind == "htcondor":
            needed = ("collector", "schedd", "trust_domain", "signing_key")
            missing = [name for name in needed if getattr(self, name) is None]
            if missing:
                raise ValueError(f"a pool of the kind htcondor needs {', '.join(missing)}")
        return self


class Service(_Strict):
    """The launch service: where people reach it, where it keeps its state, what it allows.

    ``url`` is what people's browsers see; the proxy listens on ``listen`` and ``port``. ``database`` is an SQLAlchemy
    URL without a password, ``database_password`` the file of one; without both it is SQLite below the cache. ``secret``
    is a file of 32 random bytes in hex, shared by all replicas (made below the cache if it is not stated).
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
    catalogues: tuple[Path, ...] = ()
    ca_certificates: tuple[Path, ...] = ()
    package_index: str | None = None
    limits: Limits = Limits()
    repositories: Repositories = Repositories()
    containers: Containers = Containers()
    layers: Layers = Layers()
    signing: Signing | None = None
    pool: Pool = Pool()
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
    return service.model_copy(update={name: path and file.parent / path for name, path in paths.items()})
