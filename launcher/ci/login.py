"""Gives this process the registry's credentials that a CI put into the environment, in a file as ``docker login`` does.

The file is in a directory of its own (mode 700) for as long as the command runs. Passwords are never in arguments, and
the variables are taken out of the environment, so that neither git nor a container inherits it.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from registry_sync.credentials import DockerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

USER = "CASABINDER_REGISTRY_USER"
PASSWORD = "CASABINDER_REGISTRY_PASSWORD"  # noqa: S105  # a variable's name

_GITLABS = "CI_REGISTRY_PASSWORD"


def stated_login(environment: Mapping[str, str], registry: str) -> tuple[str, str] | None:
    """Return user and password for a registry (``host[:port]``): ours, or GitLab's own for its own registry."""
    if environment.get(PASSWORD):
        return environment.get(USER, ""), environment[PASSWORD]
    if environment.get("CI_REGISTRY") == registry and environment.get(_GITLABS):
        return environment.get("CI_REGISTRY_USER", ""), environment[_GITLABS]
    return None


def without_passwords(environment: MutableMapping[str, str]) -> None:
    """Take the passwords out of the environment, ours and GitLab's, whatever registry they are for."""
    for name in (PASSWORD, _GITLABS):
        environment.pop(name, None)


@contextmanager
def logged_in(environment: MutableMapping[str, str], registry: str) -> Iterator[None]:
    """Show the registry what the environment states, here and in the docker commands that are started."""
    login = stated_login(environment, registry)
    without_passwords(environment)
    if login is None:
        yield
        return
    before = environment.get("DOCKER_CONFIG")
    with tempfile.TemporaryDirectory(prefix="casabinder-login-") as directory:
        path = Path(directory) / "config.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
            json.dump(_with_login(DockerConfig.load().document, registry, *login), sink)
        environment["DOCKER_CONFIG"] = directory
        try:
            yield
        finally:
            if before is None:
                del environment["DOCKER_CONFIG"]
            else:
                environment["DOCKER_CONFIG"] = before


def _with_login(document: Mapping[str, object], registry: str, user: str, password: str) -> dict[str, object]:
    auths, helpers = document.get("auths"), document.get("credHelpers")
    entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {
        **document,
        "auths": {**(auths if isinstance(auths, dict) else {}), registry: entry},
        # A helper for this registry would be asked first.
        "credHelpers": {
            host: name for host, name in (helpers if isinstance(helpers, dict) else {}).items() if host != registry
        },
    }
