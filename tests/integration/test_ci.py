"""``casabinder ci`` as a CI runs it: what it builds is what a click finds, and nobody without a login pushes."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.build import build
from builder.repository.spec import RepoSpec
from launcher.context import open_context
from registry_sync.client import RegistryClient
from registry_sync.credentials import Credentials
from registry_sync.layout import LayoutStore
from tests.integration.test_build import recording_proxy
from tests.testbed.ci_site import LOGIN, CiSite, running_ci_site
from tests.testbed.registry import TokenServer, registry_is_installed, running_token_server
from tests.testbed.tiny_base import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
]
SECRETS = {"CASABINDER_REGISTRY_USER": LOGIN[0], "CASABINDER_REGISTRY_PASSWORD": LOGIN[1]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CiSite]:
    with running_ci_site(tmp_path_factory.mktemp("ci")) as running:
        yield running


def on_github(site: CiSite, name: str, commit: str, **more: str) -> dict[str, str]:
    """Return what GitHub's runner has in the environment, but its files."""
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": f"http://{site.git.address}",
        "GITHUB_REPOSITORY": f"team/{name}",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_SHA": commit,
        "GITHUB_EVENT_NAME": "push",
        **more,
    }


def test_what_ci_built_a_click_finds_with_one_request(
    site: CiSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = site.commit("found", {"requirements.txt": "extra==1.0\n", "analysis.py": "import core\n"})
    checkout = site.checkout("found", commits=1)
    before = len(site.git.requests)
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    run = site.run(
        "ci", "--base", site.base, "--tag", "main", at=checkout, **on_github(site, "found", commit, **files), **SECRETS
    )
    assert run.status == 0, run.err
    assert site.git.requests[before:] == []  # the checkout has all of it
    summary = (tmp_path / "summary").read_text()
    assert run.out == summary
    outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert (outputs["pushed"], outputs["commit"], outputs["smoke-test"]) == ("true", commit, "skipped")
    for text in (outputs["image"], outputs["digest"], outputs["env-id"], "1 added", "`extra 1.0`", "refs/heads/main"):
        assert text in summary
    # The base is an image reference, which no launch page can ask for.
    assert (outputs["launch-url"], "No launch badge: " in summary) == ("", True)
    assert LOGIN[1] not in run.out + run.err

    # Somebody clicks, elsewhere: with another cache, and the address as people write it.
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path / "cache"))
    context = open_context(site.site_file)
    for url in (f"http://{site.git.address}/team/found", f"http://{site.git.address}/team/found.git"):
        with (
            closing(context.facility.store),
            recording_proxy(site.registry.address) as (address, asked),
            RegistryClient(address, credentials=Credentials(*LOGIN), insecure=True) as store,
        ):
            clicked = build(RepoSpec(url), context.bases(site.base), replace(context.facility, store=store))
            heads = {line for line in asked if "/manifests/git-" in line}
        assert (clicked.digest, clicked.image, clicked.cached) == (outputs["digest"], outputs["image"], True)
        assert len(heads) == 1
        if url.endswith(".git"):  # the second time its record is on disk, and nothing else is asked
            assert set(asked) == heads
            assert next(iter(heads)).startswith("HEAD ")
    with site.store as store:
        repository = outputs["image"].partition("/")[2].rpartition(":")[0]
        tags = store.tags(repository)
        head = store.head_manifest(repository, "main")
    assert head is not None
    assert head.digest == outputs["digest"]
    assert {"main", outputs["image-id"]} < set(tags)


def test_a_branch_that_is_built_again_says_what_has_changed(site: CiSite, tmp_path: Path) -> None:
    first = site.commit("changes", {"requirements.txt": "extra==1.0\n"})
    run = site.run(
        "ci", "--base", site.base, at=site.checkout("changes"), **on_github(site, "changes", first), **SECRETS
    )
    assert run.status == 0, run.err
    assert "Not known: the checkout has no earlier commits" in run.out
    site.commit("changes", {"notes.txt": "never built\n"})
    second = site.commit("changes", {"requirements.txt": "extra==1.1\n"})
    checkout = site.checkout("changes")
    report = tmp_path / "casabinder.env"
    run = site.run(
        *("ci", "--base", site.base, "--json", "--outputs", report),
        at=checkout,
        GITLAB_CI="true",
        CI_PROJECT_URL=f"http://{site.git.address}/team/changes",
        CI_COMMIT_SHA=second,
        CI_COMMIT_BRANCH="main",
        CI_REGISTRY=site.registry.address,
        CI_REGISTRY_USER=LOGIN[0],
        CI_REGISTRY_PASSWORD=LOGIN[1],
    )
    assert run.status == 0, run.err
    change = run.document["change"]
    assert (change["commit"], change["equal"]) == (first, False)
    assert change["packages"] == [{"environment": "analysis", "name": "extra", "before": "1.0", "after": "1.1"}]
    assert run.document["record"]["ref"] == "refs/heads/main"
    variables = dict(line.split("=", 1) for line in report.read_text().splitlines())
    assert variables["CASABINDER_IMAGE"] == run.document["record"]["image"]
    assert variables["CASABINDER_CHANGED"] == "true"


def test_a_pull_request_from_a_fork_is_built_and_never_pushed(site: CiSite, tmp_path: Path) -> None:
    commit = site.commit("forked", {"requirements.txt": "extra==1.0\n"})
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"head": {"repo": {"full_name": "stranger/forked"}}}}))
    asked = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)}
    environment = on_github(site, "forked", commit, **asked)
    # What everybody may read is no secret; what may push is not even looked at.
    docker = _logged_in(tmp_path / "docker", site)
    run = site.run(
        *("ci", "--base", site.base, "--tag", "latest", "--json", "--layout", tmp_path / "layout"),
        at=site.checkout("forked"),
        DOCKER_CONFIG=docker,
        **environment,
        **SECRETS,
    )
    assert run.status == 0, run.err
    assert run.document["pushed"] is False
    assert "pull request from a fork" in run.document["unpushed"]
    assert "::warning title=casabinder::the image was not pushed" in run.err
    repository = run.document["record"]["image"].removeprefix(f"oci:{tmp_path / 'layout'}/").rpartition(":")[0]
    with LayoutStore(tmp_path / "layout") as layout:
        found = layout.head_manifest(repository, run.document["record"]["image_id"])
    assert found is not None
    assert found.digest == run.document["record"]["digest"]
    with site.store as store:
        assert store.tags(repository) == []


def test_whoever_may_only_read_builds_without_pushing(tmp_path: Path) -> None:
    tokens = TokenServer(dict([LOGIN]), grants={"": {f"fac/{REPOSITORY}": {"pull"}}})
    with running_token_server(tokens), running_ci_site(tmp_path / "site", tokens) as site:
        commit = site.commit("reader", {"requirements.txt": "extra==1.0\n"})
        checkout = site.checkout("reader")
        environment = on_github(site, "reader", commit)
        run = site.run("ci", "--base", site.base, "--json", at=checkout, **environment)
        assert run.status == 0, run.err
        assert run.document["unpushed"].startswith(f"there are no credentials for {site.registry.address}")
        assert run.document["record"]["image"].startswith(f"oci:{tmp_path / 'site' / 'cache' / 'unpushed'}/fac/")
        run = site.run("ci", "--base", site.base, "--push", at=checkout, **environment)
        assert run.status == 4, run.out
        run = site.run("ci", "--base", site.base, "--json", at=checkout, **environment, **SECRETS)
        assert run.status == 0, run.err
        assert run.document["pushed"]


def test_without_a_login_nothing_is_pushed_and_a_wrong_one_is_a_fault(site: CiSite, tmp_path: Path) -> None:
    commit = site.commit("strangers", {"requirements.txt": "extra==1.0\n"})
    checkout = site.checkout("strangers")
    environment = on_github(site, "strangers", commit)
    # This registry does not even let strangers read its base: all that is left is to say so.
    run = site.run("ci", "--base", site.base, at=checkout, **environment)
    assert run.status == 4
    assert "registry or network at fault" in run.out
    wrong = {**SECRETS, "CASABINDER_REGISTRY_PASSWORD": "not it"}
    run = site.run("ci", "--base", site.base, "--json", at=checkout, **environment, **wrong)
    assert (run.status, run.document["status"]) == (4, 4)
    assert "as user 'robot': check the password" in run.document["error"]
    assert "::error title=casabinder::" in run.err


def test_a_build_that_is_refused_has_a_status_of_its_own(site: CiSite, tmp_path: Path) -> None:
    site.commit("broken", {"requirements.txt": "extra=>1\n"})
    checkout = site.checkout("broken")
    summary = tmp_path / "summary.md"
    run = site.run("ci", "--base", site.base, "--summary", summary, at=checkout, **SECRETS)
    assert run.status == 1
    assert "requirements.txt, line 1" in run.err
    assert summary.read_text().startswith("## casabinder: build refused")
    run = site.run("ci", "--base", site.base, "--tag", "git-0a1b2c-d4", at=checkout, **SECRETS)
    assert run.status == 1
    assert "never move" in run.err


def _logged_in(directory: Path, site: CiSite) -> str:
    directory.mkdir()
    entry = {"auth": base64.b64encode(":".join(LOGIN).encode()).decode()}
    (directory / "config.json").write_text(json.dumps({"auths": {site.registry.address: entry}}))
    return str(directory)
