"""Checks the plain settings that a site gives to containers, where everybody can read them."""

from __future__ import annotations

import re

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OUR_OWN = re.compile(
    r"(CASABINDER|BINDER|JUPYTER|JPY|DASK|LD|NB|_?CONDOR)_.*|PYTHON.*"
    r"|PATH|HOME|USER|SHELL|TMPDIR|REPO_DIR|KERNEL_PYTHON_PREFIX|XDG_RUNTIME_DIR|X509_USER_PROXY"
)
_SECRET_NAME = re.compile(r"TOKEN|PASSW|SECRET|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"eyJ[\w-]+\.|-----BEGIN |://[^/@\s]*:[^/@\s]*@")


def plain_setting(name: str, value: str) -> None:
    """Raise :class:`ValueError` for a setting that looks like a secret, or whose value is not one line."""
    if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
        raise ValueError(f"{name} looks like a secret, which would be in everybody's sight: leave it out")
    if re.search(r"[\x00-\x1f\x7f$]", value):
        raise ValueError(f"the value of {name} must be one line without a `$`, which HTCondor would expand")


def plain_environment(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment; raise :class:`ValueError` for what is no plain setting of the site's own."""
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an environment variable")
        if _OUR_OWN.fullmatch(name):
            raise ValueError(f"{name} is set by casabinder or the system: leave it out")
        plain_setting(name, value)
    return environment
