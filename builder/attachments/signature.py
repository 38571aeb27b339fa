"""Signs an image with the site's key, and checks signatures, in cosign's format.

The payload is Red Hat's "simple signing" document, signed with ECDSA over P-256 and SHA-256; the signature is an
annotation of the payload's descriptor. The manifest that holds both has the tag ``sha256-<hex>.sig``, where ``cosign
verify --key`` looks, and is a referrer as well. Neither a transparency log nor a certificate has part in it, hence
``--insecure-ignore-tlog``. Source: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import stat
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from builder.attachments.attach import Artifact, Blob
from registry_sync.errors import CasabinderError, NotFoundError
from registry_sync.manifest import canonical_json, sha256_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

    from registry_sync.manifest import Descriptor
    from registry_sync.store import Store

SIGNATURE_TYPE = "application/vnd.dev.cosign.artifact.sig.v1+json"
PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
KEY_ANNOTATION = "org.casabinder.key"

_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Signer:
    """The site's key: a PEM file with an EC P-256 private key, and the file of its password if it is encrypted.

    The files are read when something is signed; :class:`CasabinderError` says what is wrong with them.
    """

    key: Path
    password: Path | None = field(default=None, repr=False)

    @cached_property
    def _private(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        raw = _secret(self.key)
        if b"SIGSTORE" in raw or b"COSIGN" in raw:
            raise CasabinderError(
                f"the signing key {self.key} is in cosign's own encrypted format; make one with "
                "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
            )
        password = _secret(self.password).rstrip(b"\r\n") if self.password else None
        try:
            private = load_pem_private_key(raw, password)
        except (ValueError, TypeError) as error:
            raise CasabinderError(
                f"the signing key {self.key} can't be read: it is no PEM private key, or its password "
                "(signing.password) is missing, not needed or wrong"
            ) from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
            raise CasabinderError(f"the signing key {self.key} is not an EC key on the curve P-256")
        return private

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that name the key."""
        return _fingerprint(self._private.public_key())

    def sign(self, payload: bytes) -> str:
        """Return the signature of a payload, in base64."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        return base64.b64encode(self._private.sign(payload, ec.ECDSA(SHA256()))).decode()


def signature_tag(digest: str) -> str:
    """Return the tag that cosign looks for the signatures of an image under."""
    return digest.replace(":", "-") + ".sig"


def is_signed(referrers: Sequence[Descriptor], signer: Signer) -> bool:
    """Whether one of an image's referrers holds a signature with this key."""
    return any(
        one.artifact_type == SIGNATURE_TYPE and signer.fingerprint in one.annotations.get(KEY_ANNOTATION, "").split()
        for one in referrers
    )


def signature_artifact(store: Store, repository: str, name: str, digest: str, signer: Signer) -> Artifact:
    """Return the signatures of an image with ours among them; those of other keys stay. ``name`` is ``HOST/NAME``."""
    payload = canonical_json(
        {
            "critical": {
                "identity": {"docker-reference": name},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    try:
        there = store.get_manifest(repository, signature_tag(digest))
        keys = there.annotations.get(KEY_ANNOTATION, "").split()
        blobs = [
            Blob(layer.media_type, store.read_blob(repository, layer.digest), layer.annotations)
            for layer in there.layers
        ]
    except NotFoundError:
        keys, blobs = [], []
    ours = Blob(PAYLOAD_TYPE, payload, {SIGNATURE_ANNOTATION: signer.sign(payload)})
    notes = {KEY_ANNOTATION: " ".join(sorted({*keys, signer.fingerprint}))}
    return Artifact(SIGNATURE_TYPE, (*blobs, ours), notes, tag=signature_tag(digest))


def check_signature(store: Store, repository: str, digest: str, key: Path) -> str:
    """Return the fingerprint of the public key in a PEM file if it has signed the image.

    Raises :class:`CasabinderError` when nobody has signed, when another key has, or when the key can't be read.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    public = _public(key)
    try:
        manifest = store.get_manifest(repository, signature_tag(digest))
    except NotFoundError as error:
        raise CasabinderError(f"{repository}@{digest} is not signed") from error
    for layer in manifest.layers:
        if layer.media_type != PAYLOAD_TYPE:
            continue
        payload = store.read_blob(repository, layer.digest, limit=2**16)
        try:
            signature = base64.b64decode(layer.annotations.get(SIGNATURE_ANNOTATION, ""), validate=True)
            public.verify(signature, payload, ec.ECDSA(SHA256()))
        except (InvalidSignature, binascii.Error):
            continue
        if sha256_digest(payload) == layer.digest and _signed_digest(payload) == digest:
            return _fingerprint(public)
    raise CasabinderError(f"{repository}@{digest} is not signed with the key {key}")


def _signed_digest(payload: bytes) -> str:
    try:
        document: Any = json.loads(payload)
        return str(document["critical"]["image"]["docker-manifest-digest"])
    except (ValueError, KeyError, TypeError):
        return ""


def _public(path: Path) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise CasabinderError(f"the key {path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise CasabinderError(f"{path} is not a PEM public key") from error
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise CasabinderError(f"{path} is not an EC public key")
    return public


def _fingerprint(public: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256_digest(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))[7:23]


def _secret(path: Path) -> bytes:
    """Return the content of a file that nobody else may read."""
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            if mode & _READABLE_BY_OTHERS:
                raise CasabinderError(f"{path} holds a secret and others may read it; run `chmod 600 {path}`")
            return file.read(2**16)
    except OSError as error:
        raise CasabinderError(f"the signing key's file {path} can't be read: {error.strerror}") from error
