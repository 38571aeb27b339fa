"""What goes with an image: SBOM, provenance, log, signature, and how they are put there and read again."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from builder.attachments.build_log import HEAD_CHARACTERS, TAIL_CHARACTERS, BuildLog, scrub
from builder.attachments.difference import compare_images
from builder.attachments.inspection import inspect, read_document
from builder.attachments.location import locate
from builder.attachments.provenance import public_address, read_provenance
from builder.attachments.sbom import read_sbom
from builder.attachments.signature import PAYLOAD_TYPE, SIGNATURE_ANNOTATION, Signer, check_signature, signature_tag
from builder.events import Event, silent
from builder.repository.spec import RepoSpec
from builder.verify import verify
from registry_sync.errors import CasabinderError
from tests.testbed.git_repository import git
from tests.testbed.recorded_store import recorded

if TYPE_CHECKING:
    from pathlib import Path

    from builder.record import ImageRecord
    from tests.unit.builder.conftest import Workbench

FILES = {"requirements.txt": "extra==1.0\ncore<2\n", "analysis.py": "import core\n"}


def document(workbench: Workbench, record: ImageRecord, name: str) -> bytes:
    with locate(record.image, workbench.facility) as location:
        return read_document(location, name)


def test_the_sbom_is_cyclonedx_and_a_function_of_the_environment(workbench: Workbench) -> None:
    first = workbench.run(FILES)
    raw = document(workbench, first, "sbom")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw.decode()) is None
    second = workbench.run({"analysis.py": "import core, extra\n"})
    assert second.digest != first.digest
    assert document(workbench, second, "sbom") == raw
    found = json.loads(raw)
    assert "timestamp" not in found["metadata"]
    refs = {entry["ref"]: entry["dependsOn"] for entry in found["dependencies"]}
    assert refs["analysis:extra@1.0"] == ["analysis:core@1.0"]
    by_ref = {one["bom-ref"]: one for one in found["components"]}
    assert by_ref["analysis:core@1.0"]["purl"] == "pkg:pypi/core@1.0"
    assert len(by_ref["analysis:core@1.0"]["hashes"][0]["content"]) == 64
    assert by_ref["base"]["hashes"][0]["content"] == workbench.base.digest[7:]
    stated = read_sbom(raw)
    origins = {one.name: one.origin for one in stated.of("analysis").values()}
    assert origins == {"core": "replaced", "extra": "added", "plots": "base", "fonts": "base"}
    assert stated.of("analysis")["extra"].requires == ("core",)
    with pytest.raises(CasabinderError, match="SBOM was not written by casabinder"):
        read_sbom(b"{}")


def test_provenance_is_slsa_and_names_no_place_of_this_machine(workbench: Workbench) -> None:
    record = workbench.run(FILES)
    raw = document(workbench, record, "provenance")
    statement = json.loads(raw)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"][0]["digest"] == {"sha256": record.digest[7:]}
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["repository"] == "file:repo"
    dependencies = {entry["name"]: entry["digest"] for entry in definition["resolvedDependencies"]}
    assert dependencies["repository"]["gitCommit"] == record.commit
    assert dependencies["repository"]["gitTree"] == git(workbench.repository, "rev-parse", "HEAD^{tree}")
    assert dependencies["base"] == {"sha256": workbench.base.digest[7:]}
    assert {"extra-1.0-py3-none-any.whl", "core-1.0-py3-none-any.whl", "pylock.toml"} <= set(dependencies)
    assert statement["predicate"]["runDetails"]["metadata"]["startedOn"] == "2001-09-09T01:46:40Z"
    for text in (raw, document(workbench, record, "log")):
        assert str(workbench.directory).encode() not in text
    inputs = read_provenance(raw).inputs
    assert inputs.requirements[0][0] == "extra==1.0"
    for damaged in (b"{}", b"[]", raw.replace(b"urn:casabinder:build:v1", b"urn:other")):
        with pytest.raises(CasabinderError, match="provenance was not written by this version"):
            read_provenance(damaged)


@pytest.mark.parametrize(
    ("repo", "public"),
    [
        ("/home/somebody/thesis", "file:thesis"),
        ("file:///home/somebody/thesis/", "file:thesis"),
        ("https://me:secret@host:8443/a/b?token=x#y", "https://host:8443/a/b"),
        ("git@host:a/b", "git@host:a/b"),
        ("zenodo:10.5281/zenodo.1", "zenodo:10.5281/zenodo.1"),
    ],
)
def test_addresses_for_everybody(repo: str, public: str) -> None:
    assert public_address(repo) == public


def test_the_log_is_what_was_said(workbench: Workbench) -> None:
    record = workbench.run(FILES)
    text = document(workbench, record, "log").decode()
    assert "[resolve] resolving HEAD of file:repo" in text
    assert "[lock] done in" in text
    assert "1 added, 1 replaced" in text


def test_a_log_is_bounded_and_clean() -> None:
    log = BuildLog(silent, {"/home/me/x": "file:x"})
    log(Event("message", "fetch", "\x1b[31mfrom https://user:secret@host/a and /home/me/x\x1b[0m\x07"))
    assert log.text == "[fetch] from https://host/a and file:x \n"
    for number in range(20_000):
        log(Event("message", "lock", f"line {number}"))
    assert len(log.text) <= HEAD_CHARACTERS + TAIL_CHARACTERS + 100
    assert "lines left out" in log.text
    assert log.text.endswith("line 19999\n")


@given(st.text())
def test_scrubbing_never_fails_and_leaves_no_control_characters(text: str) -> None:
    line = scrub(text.replace("\n", " "), {})
    assert all(character == "\t" or ord(character) >= 32 for character in line)


def test_only_what_is_new_is_attached(workbench: Workbench) -> None:
    first = workbench.run(FILES)
    repository = first.image.partition("/")[2].rpartition(":")[0]
    before = {one.digest for one in workbench.store.referrers(repository, first.digest)}
    git(workbench.repository, "commit", "--quiet", "--amend", "-m", "other words")
    store, calls = recorded(workbench.store)
    replace(workbench, facility=replace(workbench.facility, store=store)).run()
    new = [one for one in workbench.store.referrers(repository, first.digest) if one.digest not in before]
    assert sorted(one.artifact_type or "" for one in new) == [
        "application/vnd.casabinder.record.v1+json",
        "application/vnd.in-toto+json",
        "text/plain",
    ]
    assert [call.method for call in calls].count("put_referrers") == 1


def pem(directory: Path, password: bytes | None = None, mode: int = 0o600) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private, public = directory / "site.key", directory / "site.pub"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    private.chmod(mode)
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_signature_is_cosigns(workbench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    private, public = pem(tmp_path / "one", b"a word")
    password = tmp_path / "password"
    password.write_bytes(b"a word\n")
    password.chmod(0o600)
    signed = replace(workbench, facility=replace(workbench.facility, signer=Signer(private, password)))
    record = signed.run(FILES)
    repository = record.image.partition("/")[2].rpartition(":")[0]
    manifest = workbench.store.get_manifest(repository, f"sha256-{record.digest[7:]}.sig")
    (layer,) = manifest.layers
    assert layer.media_type == PAYLOAD_TYPE == "application/vnd.dev.cosign.simplesigning.v1+json"
    payload = workbench.store.read_blob(repository, layer.digest)
    critical = json.loads(payload)["critical"]
    assert critical["type"] == "cosign container image signature"
    assert critical["image"]["docker-manifest-digest"] == record.digest
    key = serialization.load_pem_public_key(public.read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signature = base64.b64decode(layer.annotations[SIGNATURE_ANNOTATION])
    key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(signature, payload + b" ", ec.ECDSA(hashes.SHA256()))
    assert verify(record.image, workbench.facility, tmp_path / "scratch", key=public).signed_by
    (tmp_path / "two").mkdir()
    other_private, other = pem(tmp_path / "two")
    with pytest.raises(CasabinderError, match="is not signed with the key"):
        check_signature(workbench.store, repository, record.digest, other)
    git(workbench.repository, "commit", "--quiet", "--amend", "-m", "again")
    replace(workbench, facility=replace(workbench.facility, signer=Signer(other_private))).run()
    assert check_signature(workbench.store, repository, record.digest, other)
    assert check_signature(workbench.store, repository, record.digest, public)
    git(workbench.repository, "commit", "--quiet", "--amend", "-m", "and again")
    replace(workbench, facility=replace(workbench.facility, signer=Signer(other_private))).run()
    assert len(workbench.store.get_manifest(repository, signature_tag(record.digest)).layers) == 2


def test_keys_that_are_not_taken(workbench: Workbench, tmp_path: Path) -> None:
    record = workbench.run({"a.py": ""})
    repository = record.image.partition("/")[2].rpartition(":")[0]
    open_key, public = pem(tmp_path, mode=0o644)
    with pytest.raises(CasabinderError, match="others may read it; run `chmod 600"):
        _ = Signer(open_key).fingerprint
    open_key.chmod(0o600)
    with pytest.raises(CasabinderError, match="is not signed"):
        check_signature(workbench.store, repository, record.digest, public)
    open_key.write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    with pytest.raises(CasabinderError, match="cosign's own encrypted format"):
        _ = Signer(open_key).fingerprint
    open_key.write_text("no key")
    with pytest.raises(CasabinderError, match="can't be read"):
        _ = Signer(open_key).fingerprint
    with pytest.raises(CasabinderError, match="is not a PEM public key"):
        check_signature(workbench.store, repository, record.digest, open_key)


def test_inspect_and_diff(workbench: Workbench) -> None:
    before, after = workbench.run(FILES), workbench.run({"requirements.txt": "extra==2.0\n"})
    with locate(before.image, workbench.facility) as location:
        old = inspect(location, workbench.facility.cache)
    layout = workbench.store.root / after.image.partition("/")[2].rpartition(":")[0]
    with locate(f"oci:{layout}:{after.image_id}", workbench.facility) as location:
        new = inspect(location, workbench.facility.cache)
    with locate("registry.test/fac/bases/tiny:current", workbench.facility) as location:
        base = inspect(location, workbench.facility.cache)
    assert base.is_base
    assert [what for _, _, what in old.layers][-1] == "env.json"
    assert json.loads(json.dumps(old.to_json()))["env_id"] == before.env_id
    changes = {(one.name, one.before, one.after) for one in compare_images(old, new).packages}
    assert changes == {("core", "1.0", "2.0"), ("extra", "1.0", "2.0")}
    assert compare_images(old, new).tree is not None
    assert compare_images(old, old).equal
    assert {one.name for one in compare_images(base, new).packages} == {"extra"}


def test_verify_says_what_is_missing_and_which_layer_differs(workbench: Workbench, tmp_path: Path) -> None:
    record = workbench.run(FILES)
    layout = workbench.store.root / record.image.partition("/")[2].rpartition(":")[0]
    assert verify(f"oci:{layout}:{record.image_id}", workbench.facility, tmp_path / "a").passed
    lost = record.layers[2].digest
    (layout / "blobs" / "sha256" / lost[7:]).unlink()
    found = verify(record.image, workbench.facility, tmp_path / "b")
    assert found.reproduced
    assert not found.passed
    assert found.faults == (f"the blob {lost} is not there",)
    workbench.repository.rename(workbench.directory / "gone")
    with pytest.raises(CasabinderError, match="can't be made again, because its repository can't be had"):
        verify(record.image, workbench.facility, tmp_path / "c")
    workbench.store.delete_manifest(workbench.base.repository, workbench.base.digest)
    with pytest.raises(CasabinderError, match="is not there any more, so that the image can't be made again"):
        verify(record.image, workbench.facility, tmp_path / "d")
    assert RepoSpec(record.repo).is_local
