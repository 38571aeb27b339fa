"""A facility as data: ``site.yaml``, validated.

It is looked for where ``--site`` or ``CASABINDER_SITE`` points, else at ``<cache>/site.yaml`` (which
``scripts/bootstrap`` writes for the registry it starts), else the defaults below hold. Reference:
docs/reference/site-yaml.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

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


def cache_directory() -> Path:
    """Return where everything that can be made again is kept: ``$CASABINDER_CACHE``, else ``~/.cache/casabinder``."""
    stated = os.environ.get("CASABINDER_CACHE")
    return Path(stated).expanduser().absolute() if stated else Path.home() / ".cache" / "casabinder"


def load_site(path: Path | None = None) -> Site:
    """Return the site's configuration; raise :class:`CasabinderError` naming the file and the entry at fault."""
    stated = path or (Path(os.environ["CASABINDER_SITE"]) if os.environ.get("CASABINDER_SITE") else None)
    file = stated or cache_directory() / "site.yaml"
    if not file.exists():
        if stated:
            raise CasabinderError(f"there is no site configuration {file}")
        return Site()
    try:
        document: Any = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        site = Site.model_validate(document)
    except OSError as error:
        raise CasabinderError(f"the site configuration {file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CasabinderError(f"the site configuration {file} is not UTF-8 text; save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise CasabinderError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise CasabinderError(f"{file}: {where}: {first['msg']}") from error
    return site.model_copy(
        update={
            "catalogues": tuple(file.parent / entry for entry in site.catalogues),
            "ca_certificates": tuple(file.parent / entry for entry in site.ca_certificates),
            "signing": site.signing and _beside(file, site.signing),
        }
    )


def _beside(file: Path, signing: Signing) -> Signing:
    password = signing.password and file.parent / signing.password
    return Signing(key=file.parent / signing.key, password=password)
