"""Finds what data are read with: a bearer token (SciToken, WLCG) and an X.509 proxy.

Each is looked for in the places where every program of the field looks, in their order, after a file that the launcher
or the site's command put below the secrets directory:

    token                                          proxy
    <secrets>/data/bearer_token                    <secrets>/data/x509_proxy
    $BEARER_TOKEN                                  $X509_USER_PROXY
    $BEARER_TOKEN_FILE                             /tmp/x509up_u$UID
    $XDG_RUNTIME_DIR/bt_u$UID
    /tmp/bt_u$UID

(https://zenodo.org/records/3937438, WLCG Bearer Token Discovery.) The notebook server imports this module too, so
nothing beyond the standard library is imported before a proxy is found.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from casabinder_runtime.session_directory import secrets_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping

Kind = Literal["token", "proxy"]
KINDS: tuple[Kind, ...] = ("token", "proxy")
DIRECTORY = "data"  # below the secrets directory
FILES: dict[Kind, str] = {"token": "bearer_token", "proxy": "x509_proxy"}
VARIABLES: dict[Kind, str] = {"token": "BEARER_TOKEN_FILE", "proxy": "X509_USER_PROXY"}
VALUE_VARIABLE = "BEARER_TOKEN"  # goes before BEARER_TOKEN_FILE, and can't be renewed
PUSHED_TOPIC = "casabinder-data"  # of the scheduler's events: kernels hear there of every push to the workers
LONGEST = 2**18  # bytes; tokens have one or two thousand, proxies with their chain some ten thousand
TEMPORARY = Path("/tmp")  # noqa: S108  # where the discovery order has it


@dataclass(frozen=True)
class Credential:
    """A token or a proxy; ``source`` is where it was found, ``file`` where a newer one would be found.

    It is good from ``begins`` until ``ends`` (seconds since 1970), if it says so.
    """

    kind: Kind
    content: str = field(repr=False)
    source: str
    file: Path
    begins: float | None = None
    ends: float | None = None

    @property
    def digest(self) -> str:
        """A name for the content, which tells nothing of it."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]


def find_credentials(environment: Mapping[str, str] = os.environ, uid: int | None = None) -> list[Credential]:
    """Return the token and the proxy that are there, of each the first; what is empty, or no such thing, is not there.

    Of the files in ``/tmp`` only those that belong to ``uid`` (left out: this process') count: anybody can make some.
    """
    uid = os.getuid() if uid is None else uid
    found: list[Credential] = []
    for kind in KINDS:
        own = own_file(kind, environment)
        for source, content in _candidates(kind, environment, uid, own):
            if not (_is_token(content) if kind == "token" else _is_proxy(content)):
                continue
            file = own if source.startswith("$") else Path(source)
            begins, ends = token_times(content) if kind == "token" else proxy_times(content)
            found.append(Credential(kind, content, source, file, begins, ends))
            break
    return found


def own_file(kind: Kind, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the file of this kind below the secrets directory, which goes before all other places."""
    return secrets_directory(environment) / DIRECTORY / FILES[kind]


def kernel_variables(environment: Mapping[str, str], *, with_command: bool) -> dict[str, str]:
    """Return the variables by which programs find the files below the secrets directory: of those that are there.

    ``with_command``: the site's command will write a token there. All other places are found without any variable.
    """
    variables = {}
    for kind in KINDS:
        own, given = own_file(kind, environment), _given_file(kind, environment)
        if own.exists() or (kind == "token" and with_command):
            variables[VARIABLES[kind]] = str(own)
        elif given is not None and given.exists():
            variables[VARIABLES[kind]] = str(given)
    return variables


def token_times(token: str) -> tuple[float | None, float | None]:
    """Return from when until when a JWT says that it is good (RFC 7519); another token says nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return None, None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None, None
    if not isinstance(claims, dict):
        return None, None
    begins = _seconds(claims.get("nbf")) or _seconds(claims.get("iat"))
    return begins, _seconds(claims.get("exp"))


def proxy_times(pem: str) -> tuple[float | None, float | None]:
    """Return from when until when a proxy is good: until the first certificate of its chain ends."""
    from cryptography import x509

    try:
        chain = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return None, None
    ends = min(certificate.not_valid_after_utc for certificate in chain)
    return chain[0].not_valid_before_utc.timestamp(), ends.timestamp()


def write_private(path: Path, content: str) -> None:
    """Write a file of mode 0400 so that a reader sees the old or the new content; its directory gets mode 0700."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, 0o400)
            stream.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def install(contents: Mapping[Kind, str], directory: Path, environment: MutableMapping[str, str]) -> None:
    """Write the files into ``directory`` and let the variables of ``environment`` point to them."""
    for kind, content in contents.items():
        path = directory / FILES[kind]
        write_private(path, content)
        if environment.get(VARIABLES[kind]) != str(path):
            environment[VARIABLES[kind]] = str(path)
        if kind == "token":
            environment.pop(VALUE_VARIABLE, None)


def _candidates(kind: Kind, environment: Mapping[str, str], uid: int, own: Path) -> Iterator[tuple[str, str]]:
    given = _given_file(kind, environment)
    yield from _contents([own, *([given] if given else [])])
    if kind == "token":
        if environment.get(VALUE_VARIABLE):
            yield f"${VALUE_VARIABLE}", environment[VALUE_VARIABLE].strip()
        runtime = environment.get("XDG_RUNTIME_DIR")
        named = [environment.get(VARIABLES[kind]), runtime and f"{runtime}/bt_u{uid}"]
        yield from _contents(Path(name) for name in named if name)
        yield from _contents([TEMPORARY / f"bt_u{uid}"], owner=uid)
    else:
        named = [environment.get(VARIABLES[kind])]
        yield from _contents(Path(name) for name in named if name)
        yield from _contents([TEMPORARY / f"x509up_u{uid}"], owner=uid)


def _given_file(kind: Kind, environment: Mapping[str, str]) -> Path | None:
    """Return where the launcher may have put a file that this process cannot replace."""
    given = environment.get("CASABINDER_SECRETS")
    return Path(given, DIRECTORY, FILES[kind]) if given else None


def _contents(paths: Iterable[Path], owner: int | None = None) -> Iterator[tuple[str, str]]:
    for path in paths:
        content = _read(path, owner)
        if content:
            yield str(path), content


def _read(path: Path, owner: int | None) -> str:
    """Return the text of a file; nothing if it can't be read, is too long, or should be ``owner``'s and is not."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if owner is not None else 0)
    try:
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as stream:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or (owner is not None and about.st_uid != owner):
                return ""
            content = stream.read(LONGEST + 1)
        return content.decode().strip() if len(content) <= LONGEST else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _is_token(content: str) -> bool:
    return len(content.split()) == 1


def _is_proxy(content: str) -> bool:
    return "-----BEGIN CERTIFICATE-----" in content


def _seconds(claim: object) -> float | None:
    return float(claim) if isinstance(claim, int | float) and not isinstance(claim, bool) else None
