"""A site's additions on the real base: a few layers on top of all others, and the clients that read the settings."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from base_images.assemble import build_base
from base_images.definition import load_definition
from base_images.identity import base_repository
from base_images.locking import lock_additions
from builder.base import load_base
from builder.container.engine import docker, pull
from launcher.site_config import load_site
from tests.integration.conftest import PREFIX
from tests.testbed.host_certificate import host_certificate
from tests.testbed.registry import registry_is_installed
from tests.testbed.xrootd import running_xcache, running_xrootd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from base_images.assemble import BaseRecord
    from base_images.identity import Workshop
    from builder.facility import Facility

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.skipif(shutil.which("docker") is None, reason="needs Docker"),
]

SITE = """
ca_certificates: [{ca}]
additions:
  packages: [particle, servicex]
  environment: {{X509_CERT_DIR: /cvmfs/grid.cern.ch/etc/grid-security/certificates}}
  xrootd: {{xcache: {{address: "{xcache}"}}}}
  servicex: {{endpoints: {{uproot: "https://servicex.example.org"}}}}
  mlflow: {{tracking_uri: "https://mlflow.example.org"}}
"""
PROGRAM = """
import json, os, ssl, sys
import particle
from XRootD import client
from servicex.configuration import Configuration

file = client.File()
opened, _ = file.open(sys.argv[1])
assert opened.ok, opened.message
servicex = Configuration.read()
authorities = [dict(part[0] for part in one["subject"]) for one in ssl.create_default_context().get_ca_certs()]
print(json.dumps({
    "content": file.read()[1].decode(),
    "url": file.get_property("LastURL"),
    "servicex": [servicex.default_endpoint, servicex.endpoint_dict()["uproot"].endpoint],
    "authorities": [one["commonName"] for one in authorities if "commonName" in one],
    "environment": [os.environ["MLFLOW_TRACKING_URI"], os.environ["X509_CERT_DIR"]],
}))
"""


@contextmanager
def served_events() -> Iterator[str]:
    """Serve a file, ``events.txt``, and give the URL to append its name to."""
    with tempfile.TemporaryDirectory(prefix="site-data-") as name:
        directory = Path(name)  # not below pytest's own, which the server's user can't enter
        directory.chmod(0o755)
        (directory / "events.txt").write_text("events\n")
        with running_xrootd(directory) as url:
            yield url


def test_clients_read_what_the_site_adds(
    base_record: BaseRecord, facility: Facility, workshop: Workshop, tmp_path: Path
) -> None:
    definition = load_definition("coffea-py313")
    ca, _, _ = host_certificate(tmp_path / "certificates")
    with served_events() as origin, running_xcache() as (xcache, kept):
        file = tmp_path / "site.yaml"
        file.write_text(SITE.format(ca=ca, xcache=xcache))
        site = load_site(file)
        ours = replace(workshop, additions=site.additions.on_bases(site.ca_certificates))
        lock_additions(definition, ours)
        built = build_base(definition, ours, facility.store, facility.registry, "site")
        image = f"{built.reference.rpartition(':')[0]}@{built.digest}"
        try:
            pull(image)
            said = docker("run", "--rm", "--network=host", image, "python", "-c", PROGRAM, f"{origin}events.txt")
            assert docker("run", "--rm", image, "pip", "check").strip() == "No broken requirements found."
        finally:
            docker("rmi", "--force", image)
        cached = [path.name for path in kept.rglob("*.txt")]
    found = json.loads(said)
    assert found["content"] == "events\n"
    assert found["url"].startswith(f"root://{xcache}//{origin}events.txt"), "it was read through the cache"
    assert cached == ["events.txt"]
    assert found["servicex"] == ["uproot", "https://servicex.example.org"]
    assert "casabinder testbed" in found["authorities"]
    assert len(found["authorities"]) > 50, "the system's are trusted still"
    assert found["environment"] == [
        "https://mlflow.example.org",
        "/cvmfs/grid.cern.ch/etc/grid-security/certificates",
    ]

    below = load_base(facility.store, facility.registry, base_repository(PREFIX, definition.name), "current", tmp_path)
    above = load_base(facility.store, facility.registry, base_repository("site", definition.name), "current", tmp_path)
    count = len(below.manifest.layers)
    assert (below.digest, above.manifest.layers[:count]) == (base_record.digest, below.manifest.layers)
    own = above.manifest.layers[count:]
    sys.stdout.write(f"shared: {count} layers; own: {len(own)} layers, {sum(layer.size for layer in own)} bytes\n")
    assert own[-1].size < 300_000, "certificates and settings"
    assert {"particle", "servicex"} <= set(above.inventory.analysis.by_name)
