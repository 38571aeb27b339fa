"""Finds the credentials for a registry where Docker keeps them: ``config.json`` and credential helpers.

Format: https://docs.docker.com/reference/cli/docker/login/ and docker/cli ``cli/config/types/authconfig.go``. What
``docker login``, ``podman login --compat-auth-file`` and ``skopeo login`` write is read; nothing is written.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry_sync.errors import RegistryAuthError
from registry_sync.reference import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Mapping

HELPER_TIMEOUT_SECONDS = 30
DOCKER_HUB_KEY = "https://index.docker.io/v1/"

_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_KEY = re.compile(r"(?:https?://)?(?P<host>[^/]+)/?(?:v[12]/?)?")


@dataclass(frozen=True)
class Credentials:
    """What one account shows a registry: a password, an identity (refresh) token, or a ready Bearer token."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def user(self) -> str:
        """Who this is, for messages."""
        return f"user {self.username!r}" if self.username else "the configured token"


@dataclass(frozen=True)
class DockerConfig:
    """Docker's ``config.json`` as far as it is about credentials."""

    document: Mapping[str, Any] = field(repr=False)
    path: Path

    @classmethod
    def load(cls, path: Path | None = None) -> DockerConfig:
        """Read ``path``, by default ``config.json`` in ``$DOCKER_CONFIG`` or ``~/.docker``; a missing file is empty."""
        if path is None:
            directory = os.environ.get("DOCKER_CONFIG")
            path = (Path(directory) if directory else Path.home() / ".docker") / "config.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            document = {}
        except OSError as error:
            raise RegistryAuthError(f"the credentials in {path} cannot be read: {error.strerror}") from error
        except ValueError:
            document = None
        if not isinstance(document, dict):
            # Not chained: the decoder's message quotes nothing, but its ``doc`` attribute is the whole file.
            raise RegistryAuthError(f"{path} is not a JSON object: repair it or remove it") from None
        return cls(document, path)

    def credentials(self, registry: str) -> Credentials | None:
        """Return the credentials for ``registry`` (``host[:port]``), ``None`` if there are none.

        The order is Docker's: the helper for this registry, the entry in ``auths``, the default helper. Raises
        :class:`RegistryAuthError` for a helper that cannot be run and for an entry that cannot be read.
        """
        helpers = _mapping(self.document.get("credHelpers"))
        if registry in helpers:
            return _ask_helper(str(helpers[registry]), registry)
        entry = self._entry(registry)
        found = _read_entry(entry, registry, self.path) if entry else None
        if found is None and self.document.get("credsStore"):
            return _ask_helper(str(self.document["credsStore"]), registry)
        return found

    def _entry(self, registry: str) -> Mapping[str, Any]:
        auths = _mapping(self.document.get("auths"))
        if registry in auths:
            return _mapping(auths[registry])
        names = {registry, "index.docker.io"} if registry == DOCKER_HUB else {registry}
        for key, entry in auths.items():
            match = _KEY.fullmatch(key)
            if match and match["host"] in names:
                return _mapping(entry)
        return {}


def docker_credentials(registry: str) -> Credentials | None:
    """Return what Docker's configuration holds for ``registry`` now, ``None`` for nothing."""
    return DockerConfig.load().credentials(registry)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_entry(entry: Mapping[str, Any], registry: str, path: Path) -> Credentials | None:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            pair = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, ValueError):
            pair = ""
        username, colon, password = pair.partition(":")
        if not colon:
            raise RegistryAuthError(f"the entry for {registry} in {path} cannot be read: log in again") from None
        password = password.rstrip("\0")
    identity_token, registry_token = str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    if not (password or identity_token or registry_token):
        return None
    return Credentials(username, password, identity_token, registry_token)


def _ask_helper(name: str, registry: str) -> Credentials | None:
    """Run ``docker-credential-<name> get``; its output never gets into a message, for it may hold the secret."""
    if _HELPER_NAME.fullmatch(name) is None:
        raise RegistryAuthError(f"docker's config.json names a credential helper {name!r}, which is not a plain name")
    program = f"docker-credential-{name}"
    server = DOCKER_HUB_KEY if registry == DOCKER_HUB else registry
    try:
        result = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "did not answer in time" if isinstance(error, subprocess.TimeoutExpired) else "cannot be run"
        raise RegistryAuthError(f"{program}, which docker's config.json names for {registry}, {reason}") from None
    if result.returncode != 0:
        if b"not found" in result.stdout:
            return None
        raise RegistryAuthError(f"{program} failed for {registry}: run it by hand or log in again")
    try:
        answer = json.loads(result.stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryAuthError(f"{program} gave an answer for {registry} that is not its protocol's JSON") from None
    if not secret:
        return None
    return Credentials(identity_token=secret) if username == "<token>" else Credentials(username, secret)
