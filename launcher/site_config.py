"""A facility as data: ``site.yaml``, validated.

It is looked for where ``--site`` or ``CASABINDER_SITE`` points, else at ``<cache>/site.yaml`` (which
``scripts/bootstrap`` writes for the registry it starts), else the defaults below hold. Reference:
docs/reference/site-yaml.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from registry_sync.errors import CasabinderError

Memory = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Strict):
    """What one notebook server may use, its local Dask workers included."""

    cpus: float = Field(default=2.0, gt=0)
    memory: Memory = "4G"
    workers: int = Field(default=4, ge=0)


class Site(_Strict):
    """Everything that a facility decides. Paths are absolute or relative to the file."""

    registry: str = "127.0.0.1:5000/casabinder"
    base: str = "coffea-py313"
    catalogues: tuple[Path, ...] = ()
    ca_certificates: tuple[Path, ...] = ()
    package_index: str | None = None
    limits: Limits = Limits()


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
        }
    )
