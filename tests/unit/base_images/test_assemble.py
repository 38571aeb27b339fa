"""A base from a definition to the registry: real wheels and layers, a small root file system in mmdebstrap's place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from base_images.assemble import build_base
from base_images.definition import read_definition
from base_images.identity import base_identity, base_repository
from base_images.site_additions import SiteAdditions
from builder.base import load_base
from builder.build import build
from builder.facility import BaseChoice, Bases, Facility
from builder.locking.resolver import PackageIndex
from builder.repository.spec import RepoSpec
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore
from tests.testbed.git_repository import commit_files
from tests.testbed.packages import built_wheel
from tests.unit.base_images.small_base import WHEELS, workshop
from tests.unit.builder.layers.helpers import read_layer

if TYPE_CHECKING:
    from pathlib import Path

    from base_images.definition import Definition
    from tests.testbed.packages import Index

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def test_locks_name_what_the_requirements_need(definition: Definition) -> None:
    assert [(pin.name, pin.version, pin.sha256) for pin in definition.locks["analysis"]] == [
        ("core", "2.0", WHEELS[1].sha256),
        ("plots", "1.0", WHEELS[2].sha256),
    ]


@pytest.mark.usefixtures("mmdebstrap")
def test_a_base_is_the_same_from_any_cache(definition: Definition, index: Index, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        store = LayoutStore(tmp_path / name)
        record = build_base(definition, workshop(tmp_path / f"cache {name}", index), store, "host", "fac")
        assert record.reference == f"host/fac/bases/small:{record.identity}"
        immutable = f"{record.identity}-{record.digest[7:15]}"
        assert store.tags("fac/bases/small") == sorted([immutable, record.identity, "current"])
        digests.append(record.digest)
    assert digests[0] == digests[1]


@pytest.mark.usefixtures("mmdebstrap")
def test_what_is_in_a_base(definition: Definition, index: Index, tmp_path: Path) -> None:
    store, cache = LayoutStore(tmp_path / "store"), tmp_path / "cache"
    record = build_base(definition, workshop(cache, index), store, "host", "")
    base = load_base(store, "host", "bases/small", "current", cache)
    assert base.digest == record.digest
    assert (base.inventory.target.python_full, base.inventory.target.glibc) == ("3.13.5", "2.41")
    assert base.inventory.system_packages[0].startswith("git=")
    assert list(base.inventory.analysis.by_name) == ["casabinder-runtime", "core", "plots"]
    assert list(base.inventory.server.by_name) == ["casabinder-runtime", "server-app"]
    assert base.inventory.analysis.by_name["plots"].requires == ("core",)
    assert base.inventory.protected == ("core",)
    files: set[str] = set()
    for layer in base.manifest.layers:
        files |= set(read_layer(store.read_blob("bases/small", layer.digest)))
    owned = {path for paths in base.files.values() for path in paths}
    assert owned <= files
    assert "srv/env/lib/python3.13/site-packages/core/__pycache__/__init__.cpython-313.pyc" in owned
    assert {"etc/passwd", "srv/env/bin/python", "srv/jupyter/bin/python"} <= files
    assert "srv/jupyter/lib/python3.13/site-packages/server_app/__init__.py" in files
    config = json.loads(store.read_blob("bases/small", base.manifest.config.digest))["config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"][-1] == "/usr/local/bin/casabinder-entrypoint"
    assert "EXTRA=1" in config["Env"]


@pytest.mark.usefixtures("mmdebstrap")
def test_a_base_that_is_there_is_not_made_again(definition: Definition, index: Index, tmp_path: Path) -> None:
    store, surroundings = LayoutStore(tmp_path / "store"), workshop(tmp_path / "cache", index)
    first = build_base(definition, surroundings, store, "host", "")
    index.asked.clear()
    (tmp_path / "prepared").unlink()
    again = build_base(definition, surroundings, store, "host", "")
    assert (again.digest, again.cached) == (first.digest, True)
    assert index.asked == []


@pytest.mark.usefixtures("mmdebstrap")
def test_a_repository_builds_on_it(definition: Definition, index: Index, tmp_path: Path) -> None:
    store, cache = LayoutStore(tmp_path / "store"), tmp_path / "cache"
    build_base(definition, workshop(cache, index), store, "host", "")
    index.wheels.append(built_wheel("core", "1.0"))
    commit_files(tmp_path / "repo", {"requirements.txt": "core<2\ncasabinder-runtime\n"})
    facility = Facility(store, "host", "", cache, PackageIndex(url=index.url, cache=cache / "uv"))
    choice = BaseChoice("host", base_repository("", "small"), "current")
    record = build(RepoSpec(str(tmp_path / "repo")), Bases.only(choice), facility)
    assert record.packages == {"from_base": 2, "added": 0, "replaced": 1}
    repository = record.image.removeprefix("host/").partition(":")[0]
    manifest = store.get_manifest(repository, record.digest)
    above = [read_layer(store.read_blob(repository, layer.digest)) for layer in manifest.layers[-4:]]
    package = "srv/env/lib/python3.13/site-packages/core"
    assert "srv/env/lib/python3.13/site-packages/.wh.core" in above[0]
    assert f"{package}/__pycache__/__init__.cpython-313.pyc" in above[1]
    commit_files(tmp_path / "repo", {"requirements.txt": "core<2\ncasabinder-runtime==99\n"})
    with pytest.raises(CasabinderError, match="line 2: casabinder-runtime comes with the base small"):
        build(RepoSpec(str(tmp_path / "repo")), Bases.only(choice), facility)


@pytest.mark.usefixtures("mmdebstrap")
def test_a_sites_certificates_are_trusted_and_make_another_base(
    definition: Definition, index: Index, tmp_path: Path
) -> None:
    certificate = tmp_path / "ca.pem"
    certificate.write_text(CERTIFICATE)
    plain, ours = (
        workshop(tmp_path / "cache", index),
        workshop(tmp_path / "cache", index, SiteAdditions(certificates=(certificate,))),
    )
    assert base_identity(definition, plain) != base_identity(definition, ours)
    store = LayoutStore(tmp_path / "store")
    build_base(definition, ours, store, "host", "")
    manifest = store.get_manifest("bases/small", "current")
    layers = [read_layer(store.read_blob("bases/small", layer.digest)) for layer in manifest.layers]
    assert layers[-1]["etc/ssl/certs/ca-certificates.crt"].data == b"CERTIFICATES\n" + CERTIFICATE.encode()
    for content, message in ((b"\xff", "can't be read as PEM"), (b"text", "holds no PEM certificate")):
        certificate.write_bytes(content)
        with pytest.raises(CasabinderError, match=message):
            base_identity(definition, ours)


def test_a_definition_without_locks_says_what_to_do(definition: Definition, index: Index, tmp_path: Path) -> None:
    (definition.directory / "server.lock").unlink()
    bare = read_definition(definition.directory)
    with pytest.raises(CasabinderError, match=r"server.lock is missing: run `casabinder base lock small`"):
        build_base(bare, workshop(tmp_path / "cache", index), LayoutStore(tmp_path / "store"), "host", "")


@pytest.mark.usefixtures("mmdebstrap")
def test_an_index_that_lost_the_locked_wheel(definition: Definition, index: Index, tmp_path: Path) -> None:
    index.wheels[1] = built_wheel("core", "2.0", {"core/__init__.py": b"another wheel of this version"})
    store = LayoutStore(tmp_path / "store")
    with pytest.raises(CasabinderError, match=r"analysis.lock: the index no longer has the wheel of core 2.0 with sha"):
        build_base(definition, workshop(tmp_path / "cache", index), store, "host", "")
    assert store.tags("bases/small") == []
