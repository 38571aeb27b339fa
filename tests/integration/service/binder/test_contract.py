"""What clients of BinderHub rely on, asked of a running facility by way of its proxy."""

from __future__ import annotations

import json
import threading
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import jwt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from builder.providers.known import PROVIDERS
from launcher.security.keys import Keys
from launcher.service.build_tokens import USES, BuildTokens
from tests.testbed.sse import all_messages, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.service.binder.conftest import Binder

pytestmark = pytest.mark.integration

_addresses = (f"192.0.2.{number}" for number in range(1, 255))


@pytest.fixture
def visitor(binder: Binder) -> Iterator[httpx.Client]:
    """A browser with an address of its own, as far as the service can see."""
    with httpx.Client(
        base_url=binder.facility.url, headers={"X-Forwarded-For": next(_addresses)}, timeout=60, trust_env=False
    ) as client:
        yield client


def config_of(page: httpx.Response) -> dict[str, Any]:
    """Return what the first script in a page's head says."""
    script = page.text.partition("<script>")[2].partition("</script>")[0].strip()
    config: dict[str, Any] = json.loads(script.removeprefix("window.pageConfig = ").removesuffix(";"))
    return config


# --- /build --------------------------------------------------------------------------------------------------


def test_build_and_launch_then_launch_again(binder: Binder, visitor: httpx.Client) -> None:
    spec = binder.add("fresh", {"analysis.py": "print(1)\n"})
    said = all_messages(visitor, f"/build/{spec}")
    phases = [message["phase"] for message in said]
    assert phases[0] == "waiting"
    assert [phase for phase in dict.fromkeys(phases) if phase in ("fetching", "building", "built", "launching")] == [
        "fetching",
        "building",
        "built",
        "launching",
    ]
    # As in BinderHub's own test: the hub's progress is told, not only that something is launched.
    assert any(m["phase"] == "launching" and not m["message"].startswith("Launching server...") for m in said)
    ready = said[-1]
    assert ready["phase"] == "ready"
    assert ready["url"].startswith(f"{binder.facility.url}/user/")
    assert ready["binder_request"] == f"v2/{spec}"
    assert ready["binder_persistent_request"].startswith(f"v2/{spec.rpartition('/')[0]}/")
    assert ready["repo_url"] == binder.repository("fresh")
    server = visitor.get(ready["url"], params={"token": ready["token"]}, follow_redirects=True)
    assert server.status_code == 200
    assert str(server.url).startswith(ready["url"])
    stopped = httpx.post(f"{ready['url']}api/shutdown", params={"token": ready["token"]}, trust_env=False)
    assert stopped.is_success

    again = all_messages(visitor, f"/build/{spec}")
    assert again[0]["phase"] == "built"
    assert again[0]["message"] == "Found built image, launching...\n"
    assert again[-1]["phase"] == "ready"
    assert again[-1]["image"] == ready["image"] == again[0]["imageName"]
    assert (again[-1]["url"], again[-1]["token"]) != (ready["url"], ready["token"])


@pytest.mark.parametrize(
    "accept",
    ["text/event-stream", "*/*", "text/event-stream, */*", "text/event-stream;q=0.9", "text/html, */*;q=0.1"],
)
def test_build_only_with_whatever_a_client_accepts(visitor: httpx.Client, built: str, accept: str) -> None:
    [ready] = all_messages(visitor, f"/build/{built}?build_only=true", Accept=accept)
    assert ready["phase"] == "ready"
    assert ready["message"] == "Done! Found built image\n"
    assert ready["imageName"].partition("/")[2]


def test_leaving_changes_nothing_and_coming_back_joins(binder: Binder, visitor: httpx.Client) -> None:
    spec = binder.add("left", {"analysis.py": "print(2)\n"})
    with visitor.stream("GET", f"/build/{spec}?build_only=true") as response:
        assert next(messages(response))["phase"] == "waiting"
    seen: list[list[dict[str, Any]]] = []
    threads = [
        threading.Thread(target=lambda: seen.append(all_messages(visitor, f"/build/{spec}?build_only=true")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one[-1]["phase"] for one in seen] == ["ready"] * 3
    jobs = visitor.get("/api/builds", params={"repo": binder.repository("left")}).json()
    assert len(jobs) == 1


def test_a_link_to_a_build_that_is_opened_in_a_tab_is_a_page(visitor: httpx.Client, built: str) -> None:
    answer = visitor.get(f"/build/{built}?urlpath=lab&build_token=x", headers={"Sec-Fetch-Mode": "navigate"})
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/v2/{built}?urlpath=lab"
    # HEAD would start what GET starts, and tell nothing of it.
    assert visitor.head(f"/build/{built}", headers={"Accept": "application/json"}).status_code == 405


@pytest.mark.parametrize(
    ("spec", "status", "words"),
    [
        ("zz/lab/ana/HEAD", 400, "no provider 'zz'"),
        ("gh/lab", 400, "not of the form"),
        ("git/{repository}/no-such-branch", 404, "no-such-branch"),
        ("git/file%3A%2F%2F%2Fetc/HEAD", 400, ""),
        ("git/{repository}/HEAD?workers=1000", 400, "workers"),
    ],
)
def test_what_is_refused(binder: Binder, visitor: httpx.Client, built: str, spec: str, status: int, words: str) -> None:
    path = f"/build/{spec.format(repository=built.split('/')[1])}"
    [failed] = all_messages(visitor, path)
    assert failed["phase"] == "failed"
    assert words in failed["message"]
    answer = visitor.get(path, headers={"Accept": "text/event-stream, application/json"})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["error"]["message"] == failed["message"].rstrip("\n")
    assert answer.status_code == failed["status_code"]
    assert status in (answer.status_code, 403 if "file" in spec else status)


def test_a_default_branch_that_was_renamed(visitor: httpx.Client, built: str) -> None:
    advice, ready = all_messages(visitor, "/build/gh/lab/ana/master?build_only=true")
    assert advice["phase"] == "waiting"
    assert "update your links" in advice["message"]
    assert ready["phase"] == "ready"
    [failed] = all_messages(visitor, "/build/gh/lab/no-such-repository/master?build_only=true")
    assert "master" in failed["message"] or "no-such-repository" in failed["message"]


def test_a_build_that_fails(binder: Binder, visitor: httpx.Client) -> None:
    spec = binder.add("broken", {"requirements.txt": "no-such-package-anywhere==1.0\n"})
    said = all_messages(visitor, f"/build/{spec}")
    assert said[-1]["phase"] == "failed"
    assert "no-such-package-anywhere" in said[-1]["message"]
    assert not {"built", "launching", "ready"} & {message["phase"] for message in said}


# --- build tokens and rates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({"Origin": "https://my.host", "Host": "my.host"}, "my.host"),
        ({"Origin": "https://my.origin", "Host": "my.host"}, "my.origin"),
        ({"Host": "my.host"}, "my.host"),
    ],
)
def test_the_page_has_a_build_token(visitor: httpx.Client, built: str, headers: dict[str, str], origin: str) -> None:
    page = visitor.get(f"/v2/{built}", headers=headers)
    token = config_of(page)["buildToken"]
    claims = jwt.decode(token, audience=built, options={"verify_signature": False})
    assert (claims["aud"], claims["origin"]) == (built, origin)
    assert "'unsafe-inline'" not in page.headers["Content-Security-Policy"]


def test_the_rate_is_per_visitor_and_says_when_it_ends(binder: Binder, visitor: httpx.Client, built: str) -> None:
    path = f"/build/{built}?build_only=true&workers=0"
    for count in range(10):
        with visitor.stream("GET", path) as response:
            assert response.headers["x-ratelimit-limit"] == "10"
            assert response.headers["x-ratelimit-remaining"] == str(9 - count)
            assert 0 < int(response.headers["x-ratelimit-reset"]) <= 3600
            assert next(messages(response))["phase"] == "ready"
    [failed] = all_messages(visitor, path)
    assert failed["status_code"] == 429
    refused = visitor.get(path, headers={"Accept": "application/json"})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 3600
    # Who comes from the page has a token, and is not counted.
    token = config_of(visitor.get(f"/v2/{built}"))["buildToken"]
    with visitor.stream("GET", f"{path}&build_token={token}") as response:
        assert next(messages(response))["phase"] == "ready"


def test_tokens_that_are_not_for_this_are_refused(binder: Binder, visitor: httpx.Client, built: str) -> None:
    good = config_of(visitor.get(f"/v2/{built}"))["buildToken"]
    origin = jwt.decode(good, options={"verify_signature": False})["origin"]
    now = jwt.decode(good, options={"verify_signature": False})["exp"] - 1.0
    foreign = BuildTokens(Keys(b"0" * 32)).issue("git", built.removeprefix("git/"), origin, now)
    other = config_of(visitor.get("/v2/gh/lab/other/HEAD"))["buildToken"]
    for token in ("nonsense", foreign, other):
        [failed] = all_messages(visitor, f"/build/{built}?build_only=true&build_token={token}")
        assert (failed["status_code"], failed["message"]) == (403, "Invalid build token\n")
    [stolen] = all_messages(
        visitor, f"/build/{built}?build_only=true&build_token={good}", Origin="https://elsewhere.test"
    )
    assert stolen["status_code"] == 403


def test_a_token_is_used_a_few_times_only(visitor: httpx.Client, built: str) -> None:
    token = config_of(visitor.get(f"/v2/{built}"))["buildToken"]
    path = f"/build/{built}?build_only=true&build_token={token}"
    for _ in range(USES.requests):
        with visitor.stream("GET", path) as response:
            assert next(messages(response))["phase"] == "ready"
    [failed] = all_messages(visitor, path)
    assert (failed["status_code"], failed["message"]) == (403, "Invalid build token\n")


# --- the rest ------------------------------------------------------------------------------------------------


def test_versions_are_for_everybody(visitor: httpx.Client) -> None:
    answer = visitor.get("/versions", headers={"Origin": "https://federation.test"})
    assert set(answer.json()) == {"builder_info", "binderhub"}
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_providers_are_told_as_pages_need_them(visitor: httpx.Client) -> None:
    providers = visitor.get("/api/repoproviders").json()
    assert [provider["id"] for provider in providers] == list(PROVIDERS)
    for provider in providers:
        assert {"displayName", "id", "spec", "repo", "ref", "detect"} == set(provider)
        assert provider["spec"]["validateRegex"]


def test_health(visitor: httpx.Client) -> None:
    answer = visitor.get("/health")
    report = answer.json()
    assert answer.status_code == 200, report
    assert report["ok"]
    assert {"service": "JupyterHub API", "ok": True} in report["checks"]
    by_name = {check["service"]: check for check in report["checks"]}
    assert set(by_name) == {"Docker registry", "JupyterHub API", "Database", "Proxy", "Pod quota"}
    assert by_name["Proxy"]["ok"], by_name
    quota = by_name["Pod quota"]
    assert quota["quota"] is None
    assert quota["total_pods"] == quota["build_pods"] + quota["user_pods"]
    assert visitor.head("/health").status_code == 200


def test_metrics(visitor: httpx.Client, built: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(visitor.get("/metrics").text)}
    assert {"binderhub_inprogress_builds", "casabinder_queued_builds", "casabinder_watchers"} <= set(families)
    [requests] = [families[name] for name in families if name == "casabinder_request_seconds"]
    routes = {sample.labels["route"] for sample in requests.samples}
    assert all(route.isidentifier() for route in routes)
    assert not any("repo" in sample.labels for family in families.values() for sample in family.samples)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/repo/lab/ana", "/v2/gh/lab/ana/master"),
        ("/repo/lab/ana/", "/v2/gh/lab/ana/master"),
        ("/repo/lab/ana/notebooks/index.ipynb", "/v2/gh/lab/ana/master?urlpath=%2Fnotebooks%2Findex.ipynb"),
    ],
)
def test_old_links(visitor: httpx.Client, old: str, new: str) -> None:
    answer = visitor.get(old)
    assert (answer.status_code, answer.headers["Location"]) == (302, new)


@pytest.mark.parametrize(
    "path",
    [
        "/badge.svg",
        "/badge_logo.svg",
        "/static/images/badge.svg",
        "/static/images/badge_logo.svg",
        "/assets/images/badge.svg",
        "/favicon_fail.ico",
        "/favicon_success.ico",
        "/favicon_building.ico",
    ],
)
def test_images_for_readmes_and_tabs(visitor: httpx.Client, path: str) -> None:
    answer = visitor.get(path)
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert answer.text.startswith("<svg")


def test_other_sites_pages(binder: Binder, visitor: httpx.Client, built: str) -> None:
    asked = {"Origin": binder.page, "Access-Control-Request-Method": "GET"}
    allowed = visitor.options(f"/build/{built}", headers=asked)
    assert allowed.is_success
    assert allowed.headers["Access-Control-Allow-Origin"] == binder.page
    assert "cache-control" in allowed.headers["Access-Control-Allow-Headers"]
    other = visitor.options(f"/build/{built}", headers={**asked, "Origin": "https://other.test"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_launches_are_in_the_audit_log(binder: Binder, visitor: httpx.Client, built: str) -> None:
    all_messages(visitor, f"/build/{built}?build_only=true")
    schema = json.loads(files("launcher.service").joinpath("audit_event.json").read_text(encoding="utf-8"))
    lines = (binder.facility.cache / "service" / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    for event in events:
        jsonschema.Draft202012Validator(schema).validate(event)
    assert any(event["action"] == "build" and event["spec"] == built.partition("/")[2] for event in events)
