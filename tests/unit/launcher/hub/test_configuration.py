"""The hub's settings against golden files. After a change, write them anew and read the difference::

CASABINDER_UPDATE_GOLDEN=1 python -m pytest tests/unit/launcher/hub/test_configuration.py
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.container import owner
from launcher.hub.configuration import check_home, hub_settings, with_secrets
from launcher.hub.plan import ServePlan, secret_file
from launcher.security.keys import Keys
from launcher.site_config import Data, Home, Hub, Launches, Service, Site
from registry_sync.errors import CasabinderError
from tests.unit.launcher.records import htcondor_pool

GOLDEN = Path(__file__).parent / "golden"
CACHE = Path("/var/cache/casabinder")
PLAN = ServePlan(
    public_url="https://hub.example.org",
    listen="127.0.0.1",
    port=8000,
    proxy_api_port=8001,
    hub_ip="127.0.0.1",
    hub_port=8081,
    service_port=8082,
    proxy_command=("/opt/node", "/opt/configurable-http-proxy"),
)
SITES = {
    "anonymous": Site(service=Service(cors=("https://thebe.example.org",))),
    "login": Site(hub=Hub(mode="login", admins=("ann",)), service=Service(launches=Launches(longest_seconds=0))),
    "pool": Site(pool=htcondor_pool(address="192.0.2.7", user="facility", token_seconds=7200)),
    "kubernetes": Site(hub=Hub(mode="login", spawner="kubernetes", home=Home(path="/home/jovyan/work"))),
}


def settings(site: Site, plan: ServePlan = PLAN) -> dict[str, dict[str, Any]]:
    return hub_settings(site, plan, CACHE, secret_file(CACHE, site.service.secret))


@pytest.mark.parametrize("name", SITES)
def test_settings_are_a_function_of_the_site(name: str) -> None:
    document = json.dumps(settings(SITES[name]), indent=1, sort_keys=True)
    document = document.replace(sys.executable, "PYTHON").replace(owner(CACHE), "OWNER") + "\n"
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("CASABINDER_UPDATE_GOLDEN"):
        golden.write_text(document)
    assert document == golden.read_text()


def test_what_the_site_states_comes_last_and_besides_ours() -> None:
    stated: dict[str, dict[str, Any]] = {
        "JupyterHub": {"services": [{"name": "more"}], "concurrent_spawn_limit": 5},
        "GitHubOAuthenticator": {"client_id": "x"},
    }
    found = settings(Site(hub=Hub(settings=stated)))
    assert [service["name"] for service in found["JupyterHub"]["services"]] == ["launch", "idle-culler", "more"]
    assert found["JupyterHub"]["concurrent_spawn_limit"] == 5
    assert found["GitHubOAuthenticator"] == {"client_id": "x"}


def test_servers_are_told_what_data_are_read_with() -> None:
    site = Site(data=Data(environment={"XCACHE_HOST": "xcache"}, token_command=("oidc-token", "x")))
    assert settings(site)["VouchedDockerSpawner"]["data"] == {
        "environment": {"XCACHE_HOST": "xcache"},
        "data": {"token_command": ["oidc-token", "x"]},
    }


def test_without_limits_of_time_nothing_is_culled() -> None:
    launches = Launches(idle_seconds=0, longest_seconds=0)
    found = settings(Site(service=Service(launches=launches)))["JupyterHub"]
    assert [service["name"] for service in found["services"]] == ["launch"]
    assert [role["name"] for role in found["load_roles"]] == ["casabinder-launch"]


def test_secrets_are_derived_and_only_where_they_must_be() -> None:
    keys = Keys(bytes(range(32)))
    plain, whole = settings(SITES["anonymous"]), with_secrets(settings(SITES["anonymous"]), keys)
    assert whole["JupyterHub"]["cookie_secret"] == keys.key("hub-cookie")
    assert whole["ConfigurableHTTPProxy"]["auth_token"] == keys.hex("proxy")
    assert [service.get("api_token") for service in whole["JupyterHub"]["services"]] == [keys.hex("service"), None]
    assert "api_token" not in json.dumps(plain)
    assert plain == settings(SITES["anonymous"])


@pytest.mark.parametrize("path", ["/srv/repo", "/srv", "/", "/srv/env/lib", "home/jovyan", "/run/casabinder"])
def test_a_home_never_hides_what_the_image_has(path: str) -> None:
    with pytest.raises(CasabinderError, match="would hide"):
        settings(Site(hub=Hub(mode="login", home=Home(path=path))))
    settings(Site(hub=Hub(mode="anonymous", home=Home(path=path))))
    check_home("/home/jovyan")


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    PLAN.write(tmp_path)
    assert ServePlan.read(tmp_path) == PLAN
    assert (PLAN.proxy_url, PLAN.hub_api_url) == ("http://127.0.0.1:8000", "http://127.0.0.1:8081/hub/api")
    assert replace(PLAN, listen="0.0.0.0").proxy_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize("text", ["{}", "[]", '{"proxy_command": [], "other": 1}'])
def test_a_plan_of_another_version_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(CasabinderError, match=r"serve\.json"):
        ServePlan.read(tmp_path)
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "serve.json").write_text(text)
    with pytest.raises(CasabinderError, match="not of this version"):
        ServePlan.read(tmp_path)
