"""JupyterHub's configuration as a pure function of the site: traits by class.

``serve`` decides addresses and ports (:class:`launcher.hub.plan.ServePlan`); secrets come in :func:`hub_secrets`, apart
from what anybody may read. What the site states in ``hub.settings`` is applied last.
"""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from launcher.container import owner
from launcher.data_access import DataAccess
from launcher.hub.pool_access import hub_pool
from launcher.processes import DIES_WITH_PARENT
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from launcher.hub.plan import ServePlan
    from launcher.security.keys import Keys
    from launcher.site_config import Site

SERVICE = "launch"
CULLER = "idle-culler"
Settings = dict[str, dict[str, Any]]

_SPAWNERS = {
    "docker": "launcher.hub.docker_spawner.VouchedDockerSpawner",
    "kubernetes": "launcher.hub.kube_spawner.VouchedKubeSpawner",
}
_HIDDEN_BY_HOME = ("/srv/repo", "/srv/env", "/srv/jupyter", "/run/casabinder", "/etc", "/usr")
_HUBS_OWN = ("JUPYTERHUB_", "CONFIGPROXY_")
_STARTING_AT_ONCE = 64
_HTTP_SECONDS = 60


def hub_settings(site: Site, plan: ServePlan, cache: Path, secret: Path) -> Settings:
    """Return the traits of JupyterHub's classes; ``secret`` is the file that the spawner's key comes from.

    Raises :class:`CasabinderError` when the persistent home would hide the repository, or when servers could not have
    workers in the site's pool.
    """
    state = cache / "service"
    settings: Settings = {
        "JupyterHub": {
            "bind_url": f"http://{plan.listen}:{plan.port}",
            "hub_bind_url": f"http://{plan.hub_ip}:{plan.hub_port}",
            "hub_routespec": "/hub/",
            "default_url": "/",
            "db_url": f"sqlite:///{state / 'jupyterhub.sqlite'}",
            "pid_file": str(state / "jupyterhub.pid"),
            "proxy_class": "jupyterhub.proxy.ConfigurableHTTPProxy",
            "spawner_class": _SPAWNERS[site.hub.spawner],
            "authenticator_class": "null" if site.hub.mode == "anonymous" else site.hub.authenticator,
            "allow_named_servers": site.hub.mode == "login",
            "cleanup_servers": False,
            "cleanup_proxy": True,
            "concurrent_spawn_limit": _STARTING_AT_ONCE,
            "last_activity_interval": _activity_interval(site.service.launches.idle_seconds),
            "tornado_settings": {"slow_spawn_timeout": 0},
            "services": _services(site, plan),
            "load_roles": _roles(site),
        },
        "ConfigurableHTTPProxy": {
            "command": list(plan.proxy_command),
            "api_url": f"http://127.0.0.1:{plan.proxy_api_port}",
            "pid_file": str(state / "proxy.pid"),
            "should_start": True,
        },
        "Proxy": {"extra_routes": {"/": plan.service_url}},
        "Authenticator": {"admin_users": sorted(site.hub.admins)},
        "Spawner": {
            "start_timeout": site.service.launches.seconds,
            "http_timeout": _HTTP_SECONDS,
            "default_url": "/lab",
            "poll_interval": 30,
        },
        _SPAWNERS[site.hub.spawner].rpartition(".")[2]: _spawner(site, cache, secret),
    }
    if site.hub.mode == "login":
        settings["Authenticator"]["allow_all"] = True
    stated = dict(site.hub.settings)
    for name in ("services", "load_roles"):  # the site's come besides ours
        if name in stated.get("JupyterHub", {}):
            both = [*settings["JupyterHub"][name], *stated["JupyterHub"][name]]
            stated["JupyterHub"] = {**stated["JupyterHub"], name: both}
    return merged(settings, stated)


def hub_secrets(keys: Keys) -> Settings:
    """Return the traits that nobody else may see; the ``launch`` service's token is in :func:`with_secrets`."""
    return {
        "JupyterHub": {"cookie_secret": keys.key("hub-cookie")},
        "ConfigurableHTTPProxy": {"auth_token": keys.hex("proxy")},
    }


def with_secrets(settings: Settings, keys: Keys) -> Settings:
    """Return the settings with all secrets in them."""
    services = [
        {**service, "api_token": keys.hex("service")} if service["name"] == SERVICE else service
        for service in settings["JupyterHub"]["services"]
    ]
    return merged(merged(settings, hub_secrets(keys)), {"JupyterHub": {"services": services}})


def with_surroundings(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """Return the settings in which services have the environment of `casabinder serve`: the hub hands on little of it,
    and builds need to know the caches, certificates, proxies and package index of this machine."""
    inherited = {name: value for name, value in environment.items() if not name.startswith(_HUBS_OWN)}
    services = [
        {**service, "environment": {**inherited, **service.get("environment", {})}}
        for service in settings["JupyterHub"]["services"]
    ]
    return merged(settings, {"JupyterHub": {"services": services}})


def merged(settings: Mapping[str, Mapping[str, Any]], more: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Return settings in which traits of ``more`` replace those that are there."""
    names = [*settings, *(name for name in more if name not in settings)]
    return {name: {**settings.get(name, {}), **more.get(name, {})} for name in names}


def _data(site: Site) -> dict[str, Any]:
    """Return the trait that says what data are read with; none where the site says nothing of it."""
    told = DataAccess.of_site(site).told()
    return {"data": told} if told else {}


def _services(site: Site, plan: ServePlan) -> list[dict[str, Any]]:
    # Without a ``url`` of its own: the proxy's route is in ``extra_routes``, and for a service that has one JupyterHub
    # waits with pauses of up to five seconds before it makes any route.
    where = {"JUPYTERHUB_SERVICE_URL": plan.service_url, "JUPYTERHUB_SERVICE_PREFIX": f"/services/{SERVICE}/"}
    launch: dict[str, Any] = {
        "name": SERVICE,
        "command": [*DIES_WITH_PARENT, sys.executable, "-m", "launcher.service"],
        "environment": where,
        "display": False,
        "oauth_redirect_uri": "/oauth_callback",
        "oauth_no_confirm": True,
    }
    return [launch, *_culler(site)]


def _culler(site: Site) -> list[dict[str, Any]]:
    launches = site.service.launches
    timeout = launches.idle_seconds or launches.longest_seconds
    if timeout == 0:
        return []
    command = [*DIES_WITH_PARENT, sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={timeout}"]
    command += [f"--cull-every={max(1, min(60, timeout // 4))}", "--cull-admin-users=false"]
    command += [f"--max-age={launches.longest_seconds}"] if launches.longest_seconds else []
    command += ["--cull-users=true"] if site.hub.mode == "anonymous" else []
    return [{"name": CULLER, "command": command}]


def _roles(site: Site) -> list[dict[str, Any]]:
    """Return what the services may do, and in the login mode that everybody may use the launch service."""
    anonymous = site.hub.mode == "anonymous"
    # Whoever starts temporary servers makes users for them; JupyterHub has no smaller scope for making users.
    launch = ["servers", "list:users", "read:users", *(["admin:users"] if anonymous else [])]
    culler = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    roles = [{"name": "casabinder-launch", "services": [SERVICE], "scopes": launch}]
    if _culler(site):
        scopes = [*culler, *(["delete:users"] if anonymous else [])]
        roles.append({"name": "casabinder-culler", "services": [CULLER], "scopes": scopes})
    if not anonymous:
        roles.append({"name": "user", "scopes": ["self", f"access:services!service={SERVICE}"]})
    return roles


def _spawner(site: Site, cache: Path, secret: Path) -> dict[str, Any]:
    ours = owner(cache)
    settings: dict[str, Any] = {
        "secret_file": str(secret),
        "mode": site.hub.mode,
        **_data(site),
        "cors_origins": list(site.service.cors),
        "keep_stopped": site.hub.mode == "login",
        **hub_pool(site),
    }
    home = site.hub.home
    persistent = site.hub.mode == "login" and home.persistent
    if persistent:
        check_home(home.path)
    if site.hub.spawner == "docker":
        name = "{prefix}-{username}--{servername}"
        settings |= {"owner": ours, "prefix": f"casabinder-{ours}", "name_template": name}
        settings |= {"host_ip": "127.0.0.1", "remove": False}
        settings["volumes"] = {f"casabinder-home-{ours}-{{username}}": home.path} if persistent else {}
    else:
        settings["keep_stopped"] = False
        if persistent:
            claim = {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}
            settings |= {"storage_pvc_ensure": True, "volumes": [claim]}
            settings["volume_mounts"] = [{"name": "home", "mountPath": home.path}]
    return settings


def check_home(path: str) -> None:
    """Raise :class:`CasabinderError` if a volume at ``path`` would hide what the image has."""
    home = PurePosixPath(path)
    for hidden in _HIDDEN_BY_HOME:
        if not home.is_absolute() or PurePosixPath(hidden).is_relative_to(home) or home.is_relative_to(hidden):
            raise CasabinderError(f"hub.home.path {path} would hide {hidden} of the images: take /home/jovyan")


def _activity_interval(idle_seconds: int) -> int:
    return max(5, min(300, idle_seconds // 4)) if idle_seconds else 300
