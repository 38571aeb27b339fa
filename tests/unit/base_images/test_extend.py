"""A base on top of another: all of the layers below, its own above, and an inventory of both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from base_images.assemble import build_base
from base_images.definition import Definition, load_definition
from base_images.identity import base_identity, stages_of
from base_images.locking import lock_base
from builder.base import Base, load_base
from builder.build import build
from builder.facility import BaseChoice, Bases, Facility
from builder.locking.resolver import PackageIndex
from builder.repository.spec import RepoSpec
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore
from tests.testbed.git_repository import commit_files
from tests.testbed.interpreter import INTERPRETER_FILES
from tests.testbed.packages import built_wheel
from tests.unit.base_images.small_base import workshop, write_definition
from tests.unit.base_images.test_rootfs import STATUS, archive
from tests.unit.builder.layers.helpers import read_layer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.packages import Index

pytestmark = pytest.mark.usefixtures("mmdebstrap")

WIDER = """
name: wider
title: Wider
extends: small
environment: {EXTRA: "2", MORE: "3"}
protected: [fits]
labels: {org.example.group: ours}
cuda: {version: "12.9", driver: "12.0"}
"""
FITS = built_wheel("fits", "1.0", requires=["core<3", "deps"])
DEPS = built_wheel("deps", "1.0")


@pytest.fixture
def wider(definition: Definition, index: Index, tmp_path: Path) -> Definition:
    """A base that extends the small one by two packages, locked."""
    index.wheels += [FITS, DEPS, built_wheel("core", "2.5")]
    write_definition(tmp_path / "catalogue" / "wider", WIDER, analysis="fits\n")
    return locked("wider", index, tmp_path)


def locked(name: str, index: Index, tmp_path: Path) -> Definition:
    catalogue = [tmp_path / "catalogue"]
    lock_base(load_definition(name, catalogue), workshop(tmp_path / "locking", index))
    return load_definition(name, catalogue)


def built(definition: Definition, index: Index, tmp_path: Path, name: str = "store") -> Base:
    store = LayoutStore(tmp_path / name)
    surroundings = workshop(tmp_path / f"cache of {name}", index)
    record = build_base(definition, surroundings, store, "host", "")
    base = load_base(store, "host", f"bases/{definition.name}", record.identity, tmp_path / "bases")
    assert base.digest == record.digest
    return base


def test_the_lock_has_only_what_the_other_lacks(wider: Definition) -> None:
    assert [(pin.name, pin.version) for pin in wider.locks["analysis"]] == [("deps", "1.0"), ("fits", "1.0")]
    assert not wider.lock_file("server").exists()
    assert [pin.version for pin in wider.pins("analysis") if pin.name == "core"] == ["2.0"], "nothing below changes"


def test_all_layers_below_are_shared(wider: Definition, index: Index, tmp_path: Path) -> None:
    base = built(wider, index, tmp_path)
    store = LayoutStore(tmp_path / "store")
    below = load_base(store, "host", "bases/small", "current", tmp_path / "bases")
    count = len(below.manifest.layers)
    assert base.manifest.layers[:count] == below.manifest.layers
    own = [read_layer(store.read_blob("bases/wider", layer.digest)) for layer in base.manifest.layers[count:]]
    files = {path for layer in own for path in layer}
    assert all(path.startswith("srv") for path in files)
    assert "srv/env/lib/python3.13/site-packages/fits/__pycache__/__init__.cpython-313.pyc" in files
    assert base.manifest.annotations["org.opencontainers.image.base.digest"] == below.digest
    assert base.manifest.annotations["org.opencontainers.image.title"] == "Wider"
    assert store.tags("bases/wider") == sorted(["current", base.reference, f"{base.reference}-{base.digest[7:15]}"])


def test_settings_and_inventory_add_up(wider: Definition, index: Index, tmp_path: Path) -> None:
    base = built(wider, index, tmp_path)
    below = load_base(LayoutStore(tmp_path / "store"), "host", "bases/small", "current", tmp_path / "bases")
    config = base.config["config"]
    assert {"EXTRA=2", "MORE=3", "HOME=/home/jovyan"} <= set(config["Env"])
    assert config["Labels"] == {
        "org.casabinder.base": "wider",
        "org.casabinder.cuda": "12.9",
        "org.casabinder.cuda-driver": "12.0",
        "org.example.group": "ours",
    }
    assert (config["User"], config["Entrypoint"]) == ("1000:1000", below.config["config"]["Entrypoint"])
    inventory = base.inventory
    assert inventory.name == "wider"
    assert list(inventory.analysis.by_name) == ["casabinder-runtime", "core", "deps", "fits", "plots"]
    assert inventory.analysis.requirements == ("plots", "fits")
    assert inventory.server == below.inventory.server
    assert inventory.protected == ("core", "fits")
    assert (inventory.target, inventory.system_packages) == (below.inventory.target, below.inventory.system_packages)
    assert set(base.files) == set(inventory.analysis.by_name)
    assert base.interpreter_archive == below.interpreter_archive != b""
    assert base.certificates == below.certificates == "CERTIFICATES\n"


def test_it_is_the_same_from_any_cache(wider: Definition, index: Index, tmp_path: Path) -> None:
    assert built(wider, index, tmp_path, "one").digest == built(wider, index, tmp_path, "two").digest


def test_bases_that_extend_one_another(wider: Definition, index: Index, tmp_path: Path) -> None:
    index.wheels.append(built_wheel("late"))
    write_definition(
        tmp_path / "catalogue" / "widest",
        "name: widest\ntitle: W\nextends: wider\n",
        server="late\n",
        analysis="late\n",
    )
    widest = locked("widest", index, tmp_path)
    base = built(widest, index, tmp_path)
    middle = load_base(LayoutStore(tmp_path / "store"), "host", "bases/wider", "current", tmp_path / "bases")
    assert base.manifest.layers[: len(middle.manifest.layers)] == middle.manifest.layers
    assert len(base.manifest.layers) == len(middle.manifest.layers) + 2
    assert {"late", "fits", "plots"} <= set(base.inventory.analysis.by_name)
    assert list(base.inventory.server.by_name) == ["casabinder-runtime", "late", "server-app"]
    assert base.config["config"]["Labels"]["org.casabinder.cuda"] == "12.9", "what is below needs its driver still"


def test_a_base_that_adds_nothing(definition: Definition, index: Index, tmp_path: Path) -> None:
    write_definition(tmp_path / "catalogue" / "other", "name: other\ntitle: O\nextends: small\nenvironment: {A: b}\n")
    base = built(locked("other", index, tmp_path), index, tmp_path)
    small = built(definition, index, tmp_path)
    assert base.manifest.layers == small.manifest.layers
    assert "A=b" in base.config["config"]["Env"]


def test_the_identity_follows_what_is_below(wider: Definition, index: Index, tmp_path: Path) -> None:
    surroundings = workshop(tmp_path / "cache", index)
    names = [stage.identity for stage in stages_of(wider, surroundings)]
    assert names[-1] == base_identity(wider, surroundings)
    document = tmp_path / "catalogue" / "small" / "base.yaml"
    document.write_text(document.read_text().replace('EXTRA: "1"', 'EXTRA: "9"'))
    again = load_definition("wider", [tmp_path / "catalogue"])
    assert not set(names) & {stage.identity for stage in stages_of(again, surroundings)}


def test_it_moves_onto_a_base_that_was_made_anew(
    wider: Definition, definition: Definition, index: Index, tmp_path: Path
) -> None:
    store, surroundings = LayoutStore(tmp_path / "store"), workshop(tmp_path / "cache", index)
    first = build_base(wider, surroundings, store, "host", "")
    assert build_base(wider, surroundings, store, "host", "").cached
    patched = {"var/lib/dpkg/status": STATUS.replace("2.47.3", "2.47.4"), "etc/motd": "patched\n"}
    archive(tmp_path / "prepared", 1, {**INTERPRETER_FILES, **patched})
    small = build_base(definition, surroundings, store, "host", "", refresh=True)
    second = build_base(wider, surroundings, store, "host", "")
    assert not second.cached
    assert (first.identity, first.digest != second.digest) == (second.identity, True)
    manifest = store.get_manifest("bases/wider", second.identity)
    assert manifest.annotations["org.opencontainers.image.base.digest"] == small.digest
    assert build_base(wider, surroundings, store, "host", "").cached


def test_a_repository_builds_on_it(wider: Definition, index: Index, tmp_path: Path) -> None:
    base = built(wider, index, tmp_path)
    index.wheels.append(built_wheel("deps", "0.5"))
    commit_files(tmp_path / "repo", {"requirements.txt": "deps<1\n"})
    cache = tmp_path / "cache of store"
    facility = Facility(base.store, "host", "", cache, PackageIndex(url=index.url, cache=cache / "uv"))
    choice = BaseChoice("host", base.repository, base.reference)
    record = build(RepoSpec(str(tmp_path / "repo")), Bases.only(choice), facility)
    assert (record.base.name, record.packages) == ("wider", {"from_base": 4, "added": 0, "replaced": 1})
    repository = record.image.removeprefix("host/").partition(":")[0]
    manifest = base.store.get_manifest(repository, record.digest)
    above = [
        read_layer(base.store.read_blob(repository, layer.digest))
        for layer in manifest.layers[len(base.manifest.layers) :]
    ]
    assert "srv/env/lib/python3.13/site-packages/.wh.deps" in above[0]
    assert "srv/env/lib/python3.13/site-packages/deps/__pycache__/__init__.cpython-313.pyc" in above[1]
    labels = json.loads(base.store.read_blob(repository, manifest.config.digest))["config"]["Labels"]
    assert labels["org.casabinder.cuda-driver"] == "12.0", "images on top of it need the driver, too"


@pytest.mark.usefixtures("definition")
def test_what_does_not_fit_the_versions_below_is_refused(index: Index, tmp_path: Path) -> None:
    index.wheels += [built_wheel("core", "3.0"), built_wheel("newer", requires=["core>=3"])]
    directory = write_definition(
        tmp_path / "catalogue" / "other", "name: other\ntitle: O\nextends: small\n", analysis="newer\n"
    )
    with pytest.raises(CasabinderError, match=r"analysis.in: this can't be had with the versions of small") as caught:
        locked("other", index, tmp_path)
    assert "core>=3" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (directory / "analysis.lock").exists()


def test_a_lock_that_no_longer_fits_is_refused(wider: Definition, index: Index, tmp_path: Path) -> None:
    lock = wider.lock_file("analysis")
    text = lock.read_text()
    wrong = {
        "core==2.0": ("it has core, which small has itself", f"{text}core==2.0 --hash=sha256:{'0' * 64}\n"),
        "no deps": (
            "fits 1.0 requires deps, and deps is not there",
            "".join(line for line in text.splitlines(True) if not line.startswith("deps")),
        ),
        "no fits": (
            "fits is asked for, and it is not there",
            "".join(line for line in text.splitlines(True) if not line.startswith("fits")),
        ),
    }
    for reason, content in wrong.values():
        lock.write_text(content)
        stale = load_definition("wider", [tmp_path / "catalogue"])
        with pytest.raises(CasabinderError, match=f"not made for small as it is now: {reason}; run `casabinder base l"):
            built(stale, index, tmp_path)
        assert LayoutStore(tmp_path / "store").tags("bases/wider") == []


def test_a_missing_lock(wider: Definition, index: Index, tmp_path: Path) -> None:
    wider.lock_file("analysis").unlink()
    with pytest.raises(CasabinderError, match=r"analysis.lock is missing: run `casabinder base lock wider`"):
        built(load_definition("wider", [tmp_path / "catalogue"]), index, tmp_path)
