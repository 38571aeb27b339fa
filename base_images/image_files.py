"""The few files of casabinder's own in a base image: entry point, kernel specification, shell profile, commands.

``/srv/jupyter/commands`` comes first on the path and holds only links to the notebook server's own programs, so that a
repository whose requirements bring another ``jupyterhub`` or ``jupyterlab`` into the analysis environment does not
change which server is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base_images.runtime_wheel import RUNTIME
from builder.layers.layer import Entry
from registry_sync.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVER_PREFIX = "/srv/jupyter"
ANALYSIS_PREFIX = "/srv/env"
REPO_DIR = "/srv/repo"
HOME = "/home/jovyan"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
SEARCH_PATH = f"{SERVER_PREFIX}/commands:{ANALYSIS_PREFIX}/bin:{SERVER_PREFIX}/bin:/usr/local/bin:/usr/bin:/bin"
_COMMANDS = ("jupyter-lab", "jupyter-labhub", "jupyter-server", "jupyterhub-singleuser")
_SHARE = "usr/local/share/casabinder"

# Debian's /etc/profile resets PATH for login shells; terminals of JupyterLab are such shells.
_PROFILE = f'PATH="$HOME/.local/bin:{SEARCH_PATH}:/usr/local/games:/usr/games"\nexport PATH\n'

_KERNEL = {
    "argv": [f"{ANALYSIS_PREFIX}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
    "metadata": {"debugger": True},
}

# A link to ipykernel's own would be refused: tornado serves no link that leads out of its directory.
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
    '<rect x="4" y="4" width="56" height="56" rx="12" fill="#306998"/>'
    '<text x="32" y="43" font-family="sans-serif" font-size="32" font-weight="bold" text-anchor="middle"'
    ' fill="#ffd43b">Py</text></svg>\n'
)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of every container of a base, ``extra`` being the definition's own."""
    bundle = f"/{CERTIFICATES}"
    return {
        "HOME": HOME,
        "JUPYTER_PATH": f"/{_SHARE}:{ANALYSIS_PREFIX}/share/jupyter",
        "KERNEL_PYTHON_PREFIX": ANALYSIS_PREFIX,
        "LANG": "en_US.UTF-8",
        "NB_PYTHON_PREFIX": ANALYSIS_PREFIX,
        "NB_UID": "1000",
        "NB_USER": "jovyan",
        "PATH": SEARCH_PATH,
        "PIP_CERT": bundle,
        "PYTHONUNBUFFERED": "1",
        "REPO_DIR": REPO_DIR,
        "REQUESTS_CA_BUNDLE": bundle,
        "SHELL": "/bin/bash",
        "SSL_CERT_FILE": bundle,
        "USER": "jovyan",
        "XRD_LOGLEVEL": "Error",
        **extra,
    }


# JupyterLab asks every new user whether to fetch news from the network: a facility's temporary servers should not.
_LAB_SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def own_entries() -> list[Entry]:
    """Return the files that casabinder itself adds to a base."""
    entrypoint = (RUNTIME / "casabinder-entrypoint").read_bytes()
    entries = [
        Entry("usr/local/bin/casabinder-entrypoint", "file", entrypoint, mode=0o755),
        Entry("etc/profile.d/casabinder.sh", "file", _PROFILE.encode()),
        Entry(f"{_SHARE}/kernels/python3/kernel.json", "file", canonical_json(_KERNEL)),
        Entry(f"{_SHARE}/kernels/python3/logo-svg.svg", "file", _ICON.encode()),
        Entry("etc/casabinder", "directory", mode=0o755),
        Entry(REPO_DIR.strip("/"), "directory", mode=0o755, uid=1000, gid=1000),
    ]
    settings = f"{SERVER_PREFIX}/share/jupyter/lab/settings/overrides.json".strip("/")
    entries.append(Entry(settings, "file", canonical_json(_LAB_SETTINGS)))
    commands = f"{SERVER_PREFIX}/commands".strip("/")
    entries += [Entry(f"{commands}/{name}", "symlink", target=f"../bin/{name}") for name in _COMMANDS]
    return entries


def trusted(bundle: str, certificates: Sequence[tuple[str, str]]) -> str:
    """Return the PEM text of ``bundle`` with ``certificates`` ((name, PEM text) pairs) after it."""
    return bundle.rstrip("\n") + "\n" + "".join(text.rstrip("\n") + "\n" for _, text in certificates)


def certificate_entries(bundle: str, certificates: Sequence[tuple[str, str]]) -> list[Entry]:
    """Return the files that make the image trust ``certificates`` ((name, PEM text) pairs) besides ``bundle``."""
    entries = [
        Entry(f"usr/local/share/ca-certificates/{name}.crt", "file", text.encode()) for name, text in certificates
    ]
    return [*entries, Entry(CERTIFICATES, "file", trusted(bundle, certificates).encode())]


def user_entries(passwd: str, group: str) -> list[Entry]:
    """Return the files that add ``jovyan`` (1000:1000) to an image that has no user 1000; none if it has one."""
    if any(line.split(":")[2:3] == ["1000"] for line in passwd.splitlines()):
        return []
    passwd = passwd.rstrip("\n") + f"\njovyan:x:1000:1000::{HOME}:/bin/bash\n"
    group = group.rstrip("\n") + "\njovyan:x:1000:\n"
    return [
        Entry("etc/passwd", "file", passwd.encode()),
        Entry("etc/group", "file", group.encode()),
        Entry(HOME.strip("/"), "directory", mode=0o755, uid=1000, gid=1000),
    ]
