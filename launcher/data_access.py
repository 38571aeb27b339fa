"""What notebooks and workers read data with: the site's settings, and the token and proxy that a launch brings along.

::

    site.yaml `data`  ──▶ DataAccess ──▶ `environment` and `data` of CASABINDER_POOL
    --data-token, ...  ──▶            ──▶ files below the secrets directory, of mode 0400

A token and a proxy are looked for on this machine in the order in which every program of the field does it (WLCG Bearer
Token Discovery, https://zenodo.org/records/3937438); ``casabinder_runtime.data_access`` does the same in a session.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from launcher.site_config import Site

Kind = Literal["token", "proxy"]
KINDS: tuple[Kind, ...] = ("token", "proxy")
FILES: dict[Kind, str] = {"token": "data/bearer_token", "proxy": "data/x509_proxy"}  # below the secrets directory
AUTO = "auto"
NONE = "none"
LONGEST = 2**18  # bytes
TEMPORARY = Path("/tmp")  # noqa: S108  # where the discovery order has it
_LOOKED_AT: dict[Kind, str] = {
    "token": "BEARER_TOKEN, BEARER_TOKEN_FILE, $XDG_RUNTIME_DIR/bt_u$UID, /tmp/bt_u$UID",
    "proxy": "X509_USER_PROXY, /tmp/x509up_u$UID",
}


@dataclass(frozen=True)
class DataAccess:
    """What one launch gives: plain ``environment``, the command that renews the token, and ``credentials``."""

    environment: Mapping[str, str] = field(default_factory=dict)
    token_command: tuple[str, ...] = ()
    credentials: Mapping[Kind, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_site(cls, site: Site) -> DataAccess:
        """Return what the site says; nothing is brought along."""
        return cls(dict(site.data.environment), site.data.token_command)

    def told(self) -> dict[str, object]:
        """Return what a session is told in ``CASABINDER_POOL``; no credentials."""
        told: dict[str, object] = {}
        if self.environment:
            told["environment"] = dict(self.environment)
        if self.token_command:
            told["data"] = {"token_command": list(self.token_command)}
        return told

    def files(self) -> dict[str, str]:
        """Return the files of the secrets directory, by name."""
        return {FILES[kind]: f"{content}\n" for kind, content in self.credentials.items()}


def credentials_of_user(
    asked: Mapping[Kind, str | None],
    site: Site,
    say: Callable[[str], None],
    environment: Mapping[str, str] = os.environ,
) -> dict[Kind, str]:
    """Return the token and the proxy that a launch takes along, if any.

    ``asked`` is a file, ``auto``, ``none``, or nothing, which leaves it to the site's ``data.bring``. ``say`` is told
    where each was found. Raises :class:`CasabinderError` if one that was asked for is not there, or no such thing.
    """
    found: dict[Kind, str] = {}
    for kind in KINDS:
        wish = asked.get(kind)
        if wish == NONE or (wish is None and kind not in site.data.bring):
            continue
        if wish not in (None, AUTO):
            found[kind] = _from_file(kind, Path(str(wish)))
            continue
        content, where = discover(kind, environment, os.getuid())
        if content:
            found[kind] = content
            say(f"taking along the data {kind} of {where}")
        elif wish == AUTO:
            raise CasabinderError(f"there is no data {kind} here (looked at {_LOOKED_AT[kind]})")
        else:
            say(f"there is no data {kind} here to take along")
    return found


def discover(kind: Kind, environment: Mapping[str, str], uid: int) -> tuple[str, str]:
    """Return the first token or proxy of the standard places, and where it was; two empty texts if there is none.

    Of the files in ``/tmp`` only those that belong to ``uid`` count: anybody can make some.
    """
    for content, where in _places(kind, environment, uid):
        if _is(kind, content):
            return content, where
    return "", ""


def _places(kind: Kind, environment: Mapping[str, str], uid: int) -> Iterator[tuple[str, str]]:
    named = ["BEARER_TOKEN_FILE"] if kind == "token" else ["X509_USER_PROXY"]
    paths = [Path(environment[name]) for name in named if environment.get(name)]
    if kind == "token":
        yield environment.get("BEARER_TOKEN", "").strip(), "BEARER_TOKEN"
        runtime = environment.get("XDG_RUNTIME_DIR")
        paths += [Path(runtime, f"bt_u{uid}")] if runtime else []
    for path in paths:
        yield _read(path, None), str(path)
    last = TEMPORARY / (f"bt_u{uid}" if kind == "token" else f"x509up_u{uid}")
    yield _read(last, uid), str(last)


def _read(path: Path, owner: int | None) -> str:
    flags = os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if owner is not None else 0)
    try:
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as source:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or (owner is not None and about.st_uid != owner):
                return ""
            content = source.read(LONGEST + 1)
        return content.decode().strip() if len(content) <= LONGEST else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _from_file(kind: Kind, file: Path) -> str:
    try:
        if file.stat().st_mode & 0o077:
            raise CasabinderError(f"the data {kind} {file} can be read by others; run `chmod 600 {file}`")
    except OSError as error:
        raise CasabinderError(f"the data {kind} {file} can't be read: {error.strerror}") from error
    content = _read(file, None)
    if not _is(kind, content):
        what = "one word: a bearer token" if kind == "token" else "a proxy in PEM"
        raise CasabinderError(f"{file} is no data {kind}: its content must be {what}")
    return content


def _is(kind: Kind, content: str) -> bool:
    return len(content.split()) == 1 if kind == "token" else "-----BEGIN CERTIFICATE-----" in content
