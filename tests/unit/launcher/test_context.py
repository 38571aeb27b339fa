"""From site.yaml to the objects the builder works with."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from base_images.definition import catalogue
from base_images.identity import base_identity
from builder.package_pattern import PackagePattern
from launcher.context import open_context
from registry_sync.errors import CasabinderError
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

if TYPE_CHECKING:
    from pathlib import Path

    from registry_sync.store import Store

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CASABINDER_SITE", raising=False)


def test_a_base_of_the_catalogue_is_named_by_its_definition(tmp_path: Path) -> None:
    context = open_context(registry=f"oci:{tmp_path / 'images'}")
    choice = context.bases().offers[0].choice
    assert choice.repository == "bases/coffea-py313"
    assert choice.reference == base_identity(context.definition("coffea-py313"), context.workshop)
    assert choice.store is None


def test_the_rules_for_repositories_come_from_the_site(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "repositories: {deny: ['github.com/evil/*'], max_files: 7, hosts: {zenodo: 'https://sandbox.zenodo.org'}}\n"
    )
    context = open_context(tmp_path / "site.yaml", registry=f"oci:{tmp_path / 'images'}")
    fetching = context.facility.fetching
    assert (fetching.deny, fetching.max_files, fetching.private_addresses) == (("github.com/evil/*",), 7, False)
    assert context.repository("https://sandbox.zenodo.org/records/5", "HEAD", "").url == "zenodo:10.5281/zenodo.5"


def test_how_layers_are_compressed_comes_from_the_site(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("layers: {compression: zstd}\n")
    stores = f"oci:{tmp_path / 'images'}"
    assert open_context(tmp_path / "site.yaml", registry=stores).facility.compression == "zstd"
    assert open_context(registry=stores).facility.compression == "gzip"
    (tmp_path / "site.yaml").write_text("layers: {compression: bzip2}\n")
    with pytest.raises(CasabinderError, match=r"layers\.compression"):
        open_context(tmp_path / "site.yaml", registry=stores)


def test_a_token_is_for_the_host_of_the_repository(tmp_path: Path) -> None:
    context = open_context(registry=f"oci:{tmp_path / 'images'}")
    token = tmp_path / "token"
    spec = context.repository("https://gitlab.cern.ch:8443/a/b", "HEAD", "")
    credentials = context.with_token(token, spec).facility.fetching.credentials
    assert credentials is not None
    assert (credentials.file, credentials.host) == (token, "gitlab.cern.ch:8443")
    assert context.with_token(None, spec) is context
    for other in ("git@host:a/b", str(tmp_path), "10.5281/zenodo.1"):
        with pytest.raises(CasabinderError, match="is for repositories with an https URL"):
            context.with_token(token, context.repository(other, "HEAD", ""))


def test_what_a_base_is_for_comes_from_its_definition(tmp_path: Path) -> None:
    directory = tmp_path / "bases" / "mine"
    directory.mkdir(parents=True)
    document = "name: mine\ntitle: Mine\npython: '3.13'\nrootfs: {suite: trixie, packages: [git]}\n"
    document += "chosen_for: ['coffea<1']\ncuda: {version: '12.9', driver: '12.0'}\n"
    (directory / "base.yaml").write_text(document)
    for environment in ("server", "analysis"):
        (directory / f"{environment}.in").write_text("numpy\n")
    (tmp_path / "site.yaml").write_text("catalogues: [bases]\n")
    offers = open_context(tmp_path / "site.yaml", registry=f"oci:{tmp_path / 'images'}").bases().offers
    (mine,) = (offer for offer in offers if offer.name == "mine")
    assert (mine.chosen_for, mine.cuda) == ((PackagePattern.parse("coffea<1"),), "12.9")
    assert not offers[0].special


def test_a_base_elsewhere_has_a_store_of_its_own(tmp_path: Path) -> None:
    context = open_context(registry=f"oci:{tmp_path / 'images'}")
    choice = context.bases("127.0.0.1:1/group/base:v1").offers[0].choice
    assert str(choice) == "127.0.0.1:1/group/base:v1"
    assert choice.store is not None
    choice.store.close()


def test_an_unknown_base_is_answered_with_the_catalogue(tmp_path: Path) -> None:
    context = open_context(registry=f"oci:{tmp_path / 'images'}")
    with pytest.raises(CasabinderError, match="no base 'coffee'; the catalogue has coffea-"):
        context.bases("coffee")


def test_certificates_of_the_site_are_added_to_the_systems(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    site = tmp_path / "site.yaml"
    site.write_text(f"registry: 'oci:{tmp_path / 'images'}'\nca_certificates: [ca.pem]\n")
    context = open_context(site)
    bundle = context.facility.index.ca_bundle
    assert bundle is not None
    assert bundle.read_text().endswith(CERTIFICATE)
    assert context.workshop.additions.certificates == (tmp_path / "ca.pem",)


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(f"registry: 'oci:{tmp_path / 'images'}'\nca_certificates: [gone.pem]\n")
    with pytest.raises(CasabinderError, match=r"gone\.pem can't be read"):
        open_context(site)


def test_a_site_that_is_said_and_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CasabinderError, match="no site configuration"):
        open_context(tmp_path / "none.yaml")


def point(store: Store, repository: str, tag: str, name: str = "one") -> str:
    """Have a tag of a base name an image and return its digest."""
    config = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
    store.put_blob(repository, config, lambda: BytesIO(EMPTY_JSON))
    manifest = Manifest.image(config, [], annotations={"name": name})
    store.put_manifest(repository, tag, manifest)
    return manifest.digest


def test_a_site_may_follow_a_channel(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(f"registry: 'oci:{tmp_path / 'images'}'\nchannel: stable\n")
    context = open_context(site)
    with pytest.raises(CasabinderError, match=r"base release coffea-py313 --channel stable"):
        context.bases()
    digest = point(context.facility.store, "bases/coffea-py313", "stable")
    context.channels.forget("bases/coffea-py313")
    [offer] = context.bases().offers
    assert (offer.name, offer.python, offer.choice.reference) == ("coffea-py313", "3.13", digest)
    assert context.bases("coffea-py313").offers[0].choice == offer.choice
    with pytest.raises(CasabinderError, match="the channel stable of coffea-py311 names no release yet"):
        context.bases("coffea-py311")
    older = point(context.facility.store, "bases/coffea-py311", "stable", "older")
    context.channels.forget("bases/coffea-py311")
    assert [one.choice.reference for one in context.bases().offers] == [digest, older]
    assert context.base_tags() == {(f"bases/{name}", "stable") for name in catalogue()}


def test_a_release_or_a_channel_may_be_named(tmp_path: Path) -> None:
    context = open_context(registry=f"oci:{tmp_path / 'images'}")
    repository = "bases/coffea-py313"
    edge = point(context.facility.store, repository, "edge", "new")
    dated = point(context.facility.store, repository, "2026.11.30")
    assert context.bases("coffea-py313:edge").offers[0].choice.reference == edge
    assert context.bases("coffea-py313:2026.11.30").offers[0].choice.reference == dated
    everything = context.bases("edge")
    assert ([one.choice.reference for one in everything.offers], everything.stated) == ([edge], False)
    for name, says in (
        ("coffea-py313:stable", "stable of coffea-py313 names no release yet"),
        ("coffea-py313:2026.11.29", "coffea-py313 has no release 2026.11.29"),
        ("coffea-py313:current", "coffea-py313:current is no release: give coffea-py313:edge or :stable"),
        ("stable", "stable of coffea-py313 names no release yet"),
        ("coffee:stable", "there is no base 'coffee:stable'"),
    ):
        with pytest.raises(CasabinderError, match=says):
            context.bases(name)


def test_a_channel_that_there_is_not_is_refused(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("channel: beta\n")
    with pytest.raises(CasabinderError, match="channel: Input should be 'edge' or 'stable'"):
        open_context(site)
