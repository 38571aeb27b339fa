"""From site.yaml to the objects the builder works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from base_images.identity import base_identity
from launcher.context import open_context
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_base_elsewhere_has_a_store_of_its_own(tmp_path: Path) -> None:
    context = open_context(registry=f"oci:{tmp_path / 'images'}")
    choice = context.bases("127.0.0.1:1/group/base:v1").offers[0].choice
    assert str(choice) == "127.0.0.1:1/group/base:v1"
    assert choice.store is not None
    choice.store.close()


def test_an_unknown_base_is_answered_with_the_catalogue(tmp_path: Path) -> None:
    context = open_context(registry=f"oci:{tmp_path / 'images'}")
    with pytest.raises(CasabinderError, match="no base 'coffee'; the catalogue has coffea-legacy-py311, coffea-py311"):
        context.bases("coffee")


def test_certificates_of_the_site_are_added_to_the_systems(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    site = tmp_path / "site.yaml"
    site.write_text(f"registry: 'oci:{tmp_path / 'images'}'\nca_certificates: [ca.pem]\n")
    context = open_context(site)
    bundle = context.facility.index.ca_bundle
    assert bundle is not None
    assert bundle.read_text().endswith(CERTIFICATE)
    assert context.workshop.certificates == (tmp_path / "ca.pem",)


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(f"registry: 'oci:{tmp_path / 'images'}'\nca_certificates: [gone.pem]\n")
    with pytest.raises(CasabinderError, match=r"gone\.pem can't be read"):
        open_context(site)


def test_a_site_that_is_said_and_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CasabinderError, match="no site configuration"):
        open_context(tmp_path / "none.yaml")
