from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.tls import ROLES, TlsFiles, create_session_certificates
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return create_session_certificates(tmp_path / "session", now=NOW, lifetime=timedelta(days=2))


def test_nobody_else_can_read_the_files_and_no_authority_key_is_left(files: TlsFiles) -> None:
    assert files.directory.stat().st_mode & 0o777 == 0o700
    names = {path.name for path in files.directory.iterdir()}
    assert names == {"ca.pem"} | {f"{role}.{kind}" for role in ROLES for kind in ("pem", "key")}
    assert {path.stat().st_mode & 0o777 for path in files.directory.iterdir()} == {0o400}


def test_each_role_has_a_certificate_of_the_authority_for_the_session_only(files: TlsFiles) -> None:
    authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
    for role in ROLES:
        certificate = x509.load_pem_x509_certificate(files.certificate(role).read_bytes())
        certificate.verify_directly_issued_by(authority)
        public_key = certificate.public_key()
        assert isinstance(public_key, EllipticCurvePublicKey)
        assert isinstance(public_key.curve, SECP256R1)
        assert certificate.not_valid_before_utc < NOW
        assert certificate.not_valid_after_utc == NOW + timedelta(days=2)


def test_a_client_certificate_cannot_pose_as_a_server(files: TlsFiles) -> None:
    certificate = x509.load_pem_x509_certificate(files.certificate("client").read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]


def test_certificates_are_never_replaced(files: TlsFiles) -> None:
    with pytest.raises(FileExistsError):
        create_session_certificates(files.directory)


def test_a_role_gets_its_own_key_and_no_other(files: TlsFiles) -> None:
    security = files.security("worker")
    assert security.require_encryption
    assert security.tls_worker_key == str(files.key("worker"))
    assert security.tls_client_key is None
    assert security.tls_scheduler_key is None


def test_the_sessions_of_two_users_do_not_trust_each_other(tmp_path: Path) -> None:
    mine, yours = (create_session_certificates(tmp_path / name) for name in ("mine", "yours"))
    assert _handshake(mine, mine)
    assert not _handshake(mine, yours)


def _handshake(server_files: TlsFiles, client_files: TlsFiles) -> bool:
    """Tell whether a client gets through to a scheduler, both with the contexts that Dask makes."""
    server_context = server_files.security("scheduler").get_listen_args("scheduler")["ssl_context"]
    client_context = client_files.security("client").get_connection_args("client")["ssl_context"]
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    done = set()
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return False
    return len(done) == 2
