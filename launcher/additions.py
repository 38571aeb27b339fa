"""What a site adds to its bases, as ``additions`` of ``site.yaml``, and the files and variables that become of it.

Every client is told where it looks by itself: XRootD's reads the plug-ins in ``/etc/xrootd/client.plugins.d``
(XrdClPlugInManager), ServiceX's looks for ``servicex.yaml`` in the working directory and all above it, MLflow's reads
``MLFLOW_TRACKING_URI``. Triton's looks nowhere; ``TRITON_URL`` is for the analysis to read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from base_images.site_additions import SiteAdditions
from builder.layers.layer import Entry
from launcher.settings import plain_environment, plain_setting

if TYPE_CHECKING:
    from collections.abc import Iterator

WebAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^/@\s]+(/[^\s]*)?$")]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?$")]
Domain = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

_PLUGINS = "etc/xrootd/client.plugins.d"
_XCACHE = "xcache"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class XCache(_Strict):
    """Files are read through the cache at ``address``, except those on hosts of the domains ``direct``."""

    address: Host
    direct: tuple[Domain, ...] = ()


class XRootD(_Strict):
    """Plug-ins of XRootD's client by name, each with its settings (``url``, ``lib``, ``enable`` and its own)."""

    plugins: dict[Word, dict[Word, str]] = {}
    xcache: XCache | None = None

    @field_validator("plugins")
    @classmethod
    def _usable(cls, plugins: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for name, settings in plugins.items():
            if "lib" not in settings:
                raise ValueError(f"the plug-in {name} needs `lib`, its shared library in the image")
            for setting, value in settings.items():
                plain_setting(f"{name}.{setting}", value)
        return plugins

    @model_validator(mode="after")
    def _one_of_a_kind(self) -> XRootD:
        if self.xcache and _XCACHE in self.plugins:
            raise ValueError("a plug-in can't be called xcache beside `xcache`, which makes one of that name")
        if sum(settings.get("url", "*") == "*" for settings in self.plugins.values()) + bool(self.xcache) > 1:
            raise ValueError("XRootD's client takes one plug-in for all addresses: give the others a `url`")
        return self

    def files(self) -> Iterator[Entry]:
        """Yield the configuration of the plug-ins."""
        plugins = {name: {"url": "*", "enable": "true", **settings} for name, settings in self.plugins.items()}
        if self.xcache:
            plugins[_XCACHE] = {
                "url": "*",
                "lib": "libXrdClProxyPlugin.so",
                "enable": "true",
                "xroot_proxy": f"root://{self.xcache.address}//",
                **({"xroot_proxy_excl_domains": ",".join(self.xcache.direct)} if self.xcache.direct else {}),
            }
        for name, settings in sorted(plugins.items()):
            text = "".join(f"{setting} = {value}\n" for setting, value in sorted(settings.items()))
            yield Entry(f"{_PLUGINS}/{name}.conf", "file", text.encode())


class ServiceX(_Strict):
    """ServiceX deployments: their addresses by name, and the name of the one that is taken unless another is named."""

    endpoints: dict[Word, WebAddress] = Field(min_length=1)
    default: Word | None = None

    @model_validator(mode="after")
    def _known(self) -> ServiceX:
        if self.default is not None and self.default not in self.endpoints:
            raise ValueError(f"the default {self.default} is not one of the endpoints")
        return self

    def files(self) -> Iterator[Entry]:
        """Yield the client's configuration."""
        endpoints = [{"name": name, "endpoint": address} for name, address in sorted(self.endpoints.items())]
        document = {"api_endpoints": endpoints, "default_endpoint": self.default or endpoints[0]["name"]}
        text = yaml.safe_dump(document, sort_keys=True)
        yield Entry("servicex.yaml", "file", text.encode())


class MLflow(_Strict):
    """MLflow's tracking server."""

    tracking_uri: WebAddress


class Triton(_Strict):
    """A Triton inference server: ``HOST:PORT`` of gRPC, or an address of HTTP."""

    url: Host | WebAddress


class Additions(_Strict):
    """What every base of the catalogue gets at this site.

    ``packages`` are requirement lines for the analysis environment; ``locks`` is the directory of their locks.
    ``environment`` has plain settings.
    """

    packages: tuple[str, ...] = ()
    locks: Path = Path("base-locks")
    environment: dict[str, str] = {}
    xrootd: XRootD = XRootD()
    servicex: ServiceX | None = None
    mlflow: MLflow | None = None
    triton: Triton | None = None

    @field_validator("environment")
    @classmethod
    def _plain(cls, environment: dict[str, str]) -> dict[str, str]:
        return plain_environment(environment)

    @field_validator("packages")
    @classmethod
    def _requirements(cls, packages: tuple[str, ...]) -> tuple[str, ...]:
        for line in packages:
            try:
                requirement = Requirement(line)
            except InvalidRequirement as error:
                raise ValueError(f"{line!r} is not a requirement") from error
            if requirement.url:
                raise ValueError(f"{line!r} names an address: packages come from the package index")
        return packages

    def beside(self, file: Path) -> Additions:
        """Return the same with an absolute path, taken relative to a file, if it matters."""
        return self.model_copy(update={"locks": file.parent / self.locks}) if self.packages else self

    def on_bases(self, certificates: tuple[Path, ...]) -> SiteAdditions:
        """Return what the bases get, with the PEM files of certificates that are trusted in them."""
        own = {
            **({"MLFLOW_TRACKING_URI": self.mlflow.tracking_uri} if self.mlflow else {}),
            **({"TRITON_URL": self.triton.url} if self.triton else {}),
        }
        files = [*self.xrootd.files(), *(self.servicex.files() if self.servicex else ())]
        return SiteAdditions(self.packages, {**self.environment, **own}, tuple(files), certificates, self.locks)
