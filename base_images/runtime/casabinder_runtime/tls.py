"""Makes the keys and certificates of one session.

A certificate authority is made for the session alone, signs one certificate per role, and is forgotten: its private key
never leaves this function's memory. Dask checks no host names, so whoever holds a certificate of the authority may join
the cluster; an authority must therefore never serve two users, nor outlive its session.

Files, mode 0400 in a directory of mode 0700: ``ca.pem`` and, for each of scheduler, worker and client,
``<role>.pem`` and ``<role>.key``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, ObjectIdentifier
    from distributed import Security

Role = Literal["scheduler", "worker", "client"]
ROLES: tuple[Role, ...] = ("scheduler", "worker", "client")
LIFETIME = timedelta(days=30)
CLOCK_SKEW = timedelta(minutes=10)  # batch nodes are not always on time


@dataclass(frozen=True)
class TlsFiles:
    """Where the TLS material of a session lies."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The certificate of the session's authority."""
        return self.directory / "ca.pem"

    def certificate(self, role: Role) -> Path:
        """The certificate of a role."""
        return self.directory / f"{role}.pem"

    def key(self, role: Role) -> Path:
        """The private key of a role."""
        return self.directory / f"{role}.key"

    def security(self, *roles: Role) -> Security:
        """Return what ``distributed`` needs to act in these roles, and in no other; plaintext is refused."""
        from distributed import Security

        options: dict[str, str] = {"tls_ca_file": str(self.ca)}
        for role in roles:
            options[f"tls_{role}_cert"] = str(self.certificate(role))
            options[f"tls_{role}_key"] = str(self.key(role))
        return Security(require_encryption=True, **options)


def create_session_certificates(
    directory: Path, *, now: datetime | None = None, lifetime: timedelta = LIFETIME
) -> TlsFiles:
    """Write fresh certificates for all roles into ``directory`` (made if need be) and return where they are.

    Raises:
        FileExistsError: there are certificates already.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    files = TlsFiles(directory)
    start = now or datetime.now(UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign("casabinder session", authority_key, None, authority_key, start, lifetime)
    _write(files.ca, authority.public_bytes(serialization.Encoding.PEM))
    usages = {
        "scheduler": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        "worker": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        # A client only connects; its certificate cannot pose as a server.
        "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    }
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(role, key, authority, authority_key, start, lifetime, usages[role])
        _write(
            files.key(role),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        _write(files.certificate(role), certificate.public_bytes(serialization.Encoding.PEM))
    return files


def _sign(
    name: str,
    key: EllipticCurvePrivateKey,
    issuer: Certificate | None,
    issuer_key: EllipticCurvePrivateKey,
    start: datetime,
    lifetime: timedelta,
    usage: list[ObjectIdentifier] | None = None,
) -> Certificate:
    """Return a certificate for ``key``, self-signed if there is no ``issuer``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    is_authority = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(start + lifetime)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
