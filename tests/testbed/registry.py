"""Runs real registries (Debian's ``docker-registry``) on the loopback interface, for tests.

Example usage/behaviour::

    with running_registry(tmp_path) as registry:
        client = RegistryClient(registry.address, credentials=None)

With ``users`` the registry wants a password (htpasswd); with ``tokens`` it wants Bearer tokens from a token server that
runs along with it and hands out what each user may do.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PROGRAM = "docker-registry"
START_SECONDS = 20.0
SERVICE = "test-registry"
ISSUER = "test-issuer"

_LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


@dataclass
class Registry:
    """A running registry: where it is (``host:port``), where its files are, and its token server, if it has one."""

    address: str
    directory: Path
    pid: int
    token_server: TokenServer | None = None
    ca_bundle: Path | None = None


def registry_is_installed() -> bool:
    """Say whether ``running_registry`` can work here; for ``pytest.mark.skipif``."""
    return shutil.which(PROGRAM) is not None


@contextmanager
def running_registry(
    directory: Path,
    *,
    users: Mapping[str, str] | None = None,
    tokens: TokenServer | None = None,
    tls: bool = False,
) -> Iterator[Registry]:
    """Run a registry that keeps its files in ``directory``, on a free port, with deletion allowed; stop it at the end.

    ``users`` maps user names to passwords (htpasswd, needs Debian's apache2-utils). ``tokens`` is a token server from
    :func:`running_token_server`. With ``tls`` it speaks https, with a certificate that only ``ca_bundle`` of the result
    makes trusted.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "storage")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": "127.0.0.1:0"},
    }
    if users is not None:
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(_htpasswd(directory, users))}}
    if tokens is not None:
        bundle = directory / "token-issuer.pem"
        bundle.write_bytes(tokens.certificate_pem)
        config["auth"] = {
            "token": {"realm": tokens.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}
        }
    ca_bundle = None
    if tls:
        ca_bundle = directory / "tls.pem"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        ca_bundle.write_bytes(_certificate(key, "test-registry").public_bytes(serialization.Encoding.PEM))
        key_file = directory / "tls.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        config["http"]["tls"] = {"certificate": str(ca_bundle), "key": str(key_file)}
    config_file = directory / "config.yml"
    config_file.write_text(json.dumps(config))  # JSON is YAML
    log_file = directory / "registry.log"
    with ExitStack() as stack:
        log = stack.enter_context(log_file.open("wb"))
        process = subprocess.Popen([PROGRAM, "serve", str(config_file)], stdout=log, stderr=log, cwd=directory)
        stack.callback(_stop, process)
        address = _wait_until_it_answers(process, log_file, "https" if tls else "http")
        yield Registry(address, directory, process.pid, tokens, ca_bundle)


def _htpasswd(directory: Path, users: Mapping[str, str]) -> Path:
    path = directory / "htpasswd"
    path.unlink(missing_ok=True)
    path.touch()
    for user, password in users.items():
        subprocess.run(
            ["htpasswd", "-i", "-B", "-C", "5", str(path), user],
            input=password.encode(),
            check=True,
            capture_output=True,
        )
    return path


def _wait_until_it_answers(process: subprocess.Popen[bytes], log_file: Path, scheme: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = _LISTENING.search(log_file.read_text(errors="replace"))
        if found and _answers(f"{scheme}://{found[1]}/v2/"):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"{PROGRAM} did not start: {log_file.read_text(errors='replace')[-2000:]}")


def _answers(url: str) -> bool:
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=5, context=anyone):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True  # it wants a login
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class TokenServer:
    """Hands out registry tokens (https://distribution.github.io/distribution/spec/auth/jwt/).

    ``users`` maps names to passwords. ``grants`` maps a user name ("" for anonymous) to the repositories and actions it
    may have; a user that is not in it may do everything, anonymous nothing. ``refresh_tokens`` maps identity tokens to
    users. ``asked`` records the scopes of each request.
    """

    users: Mapping[str, str]
    grants: Mapping[str, Mapping[str, set[str]]] = field(default_factory=dict)
    refresh_tokens: Mapping[str, str] = field(default_factory=dict)
    lifetime: int = 300
    realm: str = ""
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = _certificate(self._key, ISSUER)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate that registries check tokens with."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def authenticate(self, authorization: str | None) -> str | None:
        """Return the user of a Basic header, "" for no header, ``None`` for a wrong one."""
        if authorization is None:
            return ""
        user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return user if self.users.get(user) == password else None

    def token(self, user: str, scopes: list[str]) -> str:
        """Return a signed token with as much of ``scopes`` as ``user`` may have."""
        self.asked.append(tuple(scopes))
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = self.grants.get(user, {}).get(name, set()) if user in self.grants or not user else None
            granted = [action for action in actions.split(",") if allowed is None or action in allowed]
            access.append({"type": kind, "name": name, "actions": granted})
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 10,
            "exp": now + self.lifetime,
            "jti": f"{now}-{len(self.asked)}",
            "access": access,
        }
        signed = f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"


@contextmanager
def running_token_server(server: TokenServer) -> Iterator[TokenServer]:
    """Run ``server`` on a free loopback port, which ``server.realm`` names, until the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            user = server.authenticate(self.headers.get("Authorization"))
            self._answer(user, query.get("scope", []))

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            user = server.refresh_tokens.get(form.get("refresh_token", [""])[0])
            self._answer(user, " ".join(form.get("scope", [])).split())

        def _answer(self, user: str | None, scopes: list[str]) -> None:
            if user is None:
                status, document = 401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}
            else:
                issued_at = datetime.now(UTC).isoformat()
                token = server.token(user, scopes)
                status, document = 200, {"token": token, "expires_in": server.lifetime, "issued_at": issued_at}  # type: ignore[dict-item]
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

    with running_http_server(Handler) as address:
        server.realm = f"http://{address}/token"
        yield server


@contextmanager
def running_http_server(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """Serve ``handler`` on a loopback port, a free one unless it is stated; give its address (``host:port``)."""
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _certificate(key: rsa.RSAPrivateKey, common_name: str) -> x509.Certificate:
    """Return a self-signed certificate for the loopback address, good for a day."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(loopback, critical=False)
        .sign(key, hashes.SHA256())
    )


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
