"""The files and variables that become of a site's additions, and what can be wrong in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from launcher.site_config import load_site
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = """
ca_certificates: [ca.pem]
additions:
  packages: ["our-tools>=2"]
  environment: {X509_CERT_DIR: /cvmfs/grid.cern.ch/etc/grid-security/certificates}
  xrootd:
    xcache: {address: "xcache.example.org:1094", direct: [eos.example.org, cern.ch]}
    plugins:
      authz: {url: "root://*.example.org", lib: /srv/env/lib/libXrdClAuthz.so}
  servicex:
    endpoints: {uproot: "https://servicex.example.org", other: "https://other.example.org"}
    default: uproot
  mlflow: {tracking_uri: "https://mlflow.example.org"}
  triton: {url: "triton.example.org:8001"}
"""


def site_with(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return path


def test_what_becomes_of_everything(tmp_path: Path) -> None:
    site = load_site(site_with(tmp_path, EVERYTHING))
    found = site.additions.on_bases(site.ca_certificates)
    assert found.packages == ("our-tools>=2",)
    assert (found.certificates, found.locks) == ((tmp_path / "ca.pem",), tmp_path / "base-locks")
    assert found.environment == {
        "X509_CERT_DIR": "/cvmfs/grid.cern.ch/etc/grid-security/certificates",
        "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
        "TRITON_URL": "triton.example.org:8001",
    }
    files = {entry.path: entry.content for entry in found.files}
    assert files == {
        "etc/xrootd/client.plugins.d/authz.conf": (
            b"enable = true\nlib = /srv/env/lib/libXrdClAuthz.so\nurl = root://*.example.org\n"
        ),
        "etc/xrootd/client.plugins.d/xcache.conf": (
            b"enable = true\nlib = libXrdClProxyPlugin.so\nurl = *\nxroot_proxy = root://xcache.example.org:1094//\n"
            b"xroot_proxy_excl_domains = eos.example.org,cern.ch\n"
        ),
        "servicex.yaml": files["servicex.yaml"],
    }
    servicex = files["servicex.yaml"]
    assert isinstance(servicex, bytes)
    assert yaml.safe_load(servicex) == {
        "api_endpoints": [
            {"name": "other", "endpoint": "https://other.example.org"},
            {"name": "uproot", "endpoint": "https://servicex.example.org"},
        ],
        "default_endpoint": "uproot",
    }


def test_a_site_that_adds_nothing(tmp_path: Path) -> None:
    for text in ("base: coffea-py313\n", "additions: {}\n"):
        site = load_site(site_with(tmp_path, text))
        assert not site.additions.on_bases(site.ca_certificates)
    assert load_site(site_with(tmp_path, "ca_certificates: [ca.pem]")).additions.on_bases((tmp_path / "ca.pem",))


@pytest.mark.parametrize(
    ("additions", "message"),
    [
        ("packages: ['a b']", "additions.packages: Value error, 'a b' is not a requirement"),
        ("packages: ['a @ https://x.org/a.whl']", "names an address: packages come from the package index"),
        ("environment: {API_TOKEN: x}", "API_TOKEN looks like a secret"),
        ("environment: {PATH: /bin}", "PATH is set by casabinder or the system"),
        ("xrootd: {plugins: {a: {url: '*'}}}", "the plug-in a needs `lib`"),
        ('xrootd: {plugins: {a: {lib: "x\\ny"}}}', "the value of a.lib must be one line"),
        ("xrootd: {plugins: {../a: {lib: x}}}", "additions.xrootd.plugins"),
        ("xrootd: {xcache: {address: 'root://x'}}", "additions.xrootd.xcache.address: "),
        ("xrootd: {xcache: {address: x}, plugins: {xcache: {lib: x}}}", "a plug-in can't be called xcache"),
        ("xrootd: {xcache: {address: x}, plugins: {a: {lib: x}}}", "takes one plug-in for all addresses"),
        ("xrootd: {plugins: {a: {lib: x}, b: {lib: x, url: '*'}}}", "takes one plug-in for all addresses"),
        ("servicex: {endpoints: {}}", "additions.servicex.endpoints: "),
        ("servicex: {endpoints: {a: 'https://x'}, default: b}", "the default b is not one of the endpoints"),
        ("servicex: {endpoints: {a: 'https://x'}, token: b}", "additions.servicex.token: Extra inputs"),
        ("mlflow: {tracking_uri: 'https://user:pw@x'}", "additions.mlflow.tracking_uri: "),
        ("triton: {url: ''}", "additions.triton.url"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, additions: str, message: str) -> None:
    with pytest.raises(CasabinderError) as caught:
        load_site(site_with(tmp_path, f"additions: {{{additions}}}\n"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
