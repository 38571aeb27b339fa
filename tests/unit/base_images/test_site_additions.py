"""What a site adds is on top of all that the catalogue makes, and nothing if it adds nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from base_images.assemble import build_base
from base_images.definition import load_definition
from base_images.identity import base_identity
from base_images.locking import lock_additions, lock_base
from base_images.site_additions import SiteAdditions
from builder.base import load_base
from builder.layers.layer import Entry
from registry_sync.errors import CasabinderError
from registry_sync.layout import LayoutStore
from tests.testbed.packages import built_wheel
from tests.unit.base_images.small_base import workshop, write_definition
from tests.unit.builder.layers.helpers import read_layer

if TYPE_CHECKING:
    from pathlib import Path

    from base_images.definition import Definition
    from tests.testbed.packages import Index

pytestmark = pytest.mark.usefixtures("mmdebstrap")

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
FILE = Entry("etc/site.conf", "file", b"here\n")


def everything(tmp_path: Path) -> SiteAdditions:
    certificate = tmp_path / "ca.pem"
    certificate.write_text(CERTIFICATE)
    return SiteAdditions(("tools",), {"SITE": "here"}, (FILE,), (certificate,), tmp_path / "base-locks")


def test_a_sites_layer_is_on_top_of_every_base(definition: Definition, index: Index, tmp_path: Path) -> None:
    index.wheels += [built_wheel("tools", requires=["core"]), built_wheel("more")]
    write_definition(tmp_path / "catalogue" / "wider", "name: wider\ntitle: W\nextends: small\n", analysis="more\n")
    plain = workshop(tmp_path / "cache", index)
    ours = replace(plain, additions=everything(tmp_path))
    lock_base(load_definition("wider", [tmp_path / "catalogue"]), plain)
    wider = load_definition("wider", [tmp_path / "catalogue"])
    store = LayoutStore(tmp_path / "store")
    for base in (definition, wider):
        assert [pin.name for pin in lock_additions(base, ours)] == ["tools"], "the base has core"
        newer = replace(ours, additions=replace(ours.additions, packages=("tools>=9",)))
        with pytest.raises(CasabinderError, match=f"this can't be had with the versions of {base.name}, which"):
            lock_additions(base, newer)
        built = build_base(base, ours, store, "host", "")
        there = build_base(base, plain, store, "host", "")
        assert there.cached, "what the catalogue makes is below"
        repository = f"bases/{base.name}"
        below = load_base(store, "host", repository, there.identity, tmp_path / "bases")
        above = load_base(store, "host", repository, "current", tmp_path / "bases")
        assert (above.digest, above.inventory.name) == (built.digest, base.name)
        count = len(below.manifest.layers)
        assert above.manifest.layers[:count] == below.manifest.layers
        wheel, files = (read_layer(store.read_blob(repository, one.digest)) for one in above.manifest.layers[count:])
        assert "srv/env/lib/python3.13/site-packages/tools/__init__.py" in wheel
        bundle = "etc/ssl/certs/ca-certificates.crt"
        (certificate,) = (path for path in files if path.startswith("usr/local/share/ca-certificates/site-"))
        assert files[certificate].data == CERTIFICATE.encode()
        assert files["etc/site.conf"].data == b"here\n"
        assert files[bundle].data == f"CERTIFICATES\n{CERTIFICATE}".encode()
        assert above.certificates == f"CERTIFICATES\n{CERTIFICATE}"
        assert "SITE=here" in above.config["config"]["Env"]
        assert "tools" in above.inventory.analysis.by_name
        assert above.inventory.analysis.requirements[-1] == "tools"
        assert above.config["config"]["Labels"] == below.config["config"]["Labels"]


def test_every_addition_decides_the_identity(definition: Definition, index: Index, tmp_path: Path) -> None:
    whole = everything(tmp_path)
    lock = tmp_path / "base-locks" / "small.lock"
    lock.parent.mkdir()
    lock.write_text(f"tools==1.0 --hash=sha256:{'0' * 64}\n")
    plain = workshop(tmp_path / "cache", index)

    def identity(additions: SiteAdditions) -> str:
        return base_identity(definition, replace(plain, additions=additions))

    names = [
        base_identity(definition, plain),
        identity(whole),
        identity(replace(whole, packages=())),
        identity(replace(whole, environment={"SITE": "there"})),
        identity(replace(whole, files=(replace(FILE, content=b"there\n"),))),
        identity(replace(whole, certificates=())),
    ]
    lock.write_text(f"tools==2.0 --hash=sha256:{'0' * 64}\n")
    names.append(identity(whole))
    assert len(set(names)) == len(names)
    assert identity(SiteAdditions(locks=tmp_path)) == names[0]


def test_settings_alone_make_no_layer(definition: Definition, index: Index, tmp_path: Path) -> None:
    store, plain = LayoutStore(tmp_path / "store"), workshop(tmp_path / "cache", index)
    ours = replace(plain, additions=SiteAdditions(environment={"SITE": "here"}))
    built = build_base(definition, ours, store, "host", "")
    below = build_base(definition, plain, store, "host", "")
    manifests = [store.get_manifest("bases/small", one.identity) for one in (built, below)]
    assert manifests[0].layers == manifests[1].layers
    assert built.digest != below.digest
    assert store.head_manifest("bases/small", "current") == manifests[0].descriptor()


def test_packages_without_a_lock_or_with_an_old_one(definition: Definition, index: Index, tmp_path: Path) -> None:
    index.wheels.append(built_wheel("tools", requires=["core"]))
    store = LayoutStore(tmp_path / "store")
    additions = SiteAdditions(("tools",), locks=tmp_path / "base-locks")
    ours = workshop(tmp_path / "cache", index, additions)
    with pytest.raises(CasabinderError, match=r"small.lock is missing: run `casabinder base lock --additions small`"):
        build_base(definition, ours, store, "host", "")
    assert store.tags("bases/small") == [], "before anything is made"
    lock_additions(definition, ours)
    assert "`casabinder base lock --additions small`" in (tmp_path / "base-locks" / "small.lock").read_text()
    newer = replace(ours, additions=replace(additions, packages=("tools>=9",)))
    with pytest.raises(CasabinderError, match=r"small.lock was not made for small as it is now: tools>=9 is asked for"):
        build_base(definition, newer, store, "host", "")
