"""The action for GitHub and the component for GitLab, run step by step as their runners would, and by their schemas."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.testbed.ci_site import LOGIN, ROOT, CiSite, running_ci_site
from tests.testbed.registry import registry_is_installed
from tests.testbed.runner import run_action

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
]

ACTION = ROOT / "action.yml"
COMPONENT = ROOT / "templates" / "casabinder.yml"
VENV = Path(sys.executable).parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CiSite]:
    with running_ci_site(tmp_path_factory.mktemp("action")) as running:
        yield running


def installed(scratch: Path) -> Path:
    """Make the runner's directory, in which casabinder is installed already, as on the second run of a job."""
    venv = scratch / "casabinder" / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "casabinder").symlink_to(VENV / "casabinder")
    locked = (ROOT / "requirements.lock").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    digest = subprocess.run(["sha256sum"], input=locked, capture_output=True, check=True).stdout.decode().strip()
    (venv / ".casabinder").write_text(f"{digest} {ROOT}\n")
    return scratch


def check_schema(name: str, *files: Path) -> str:
    """Return what is wrong with files by an official schema."""
    command = [str(VENV / "check-jsonschema"), "--builtin-schema", name, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def component(**inputs: str) -> dict[str, Any]:
    """Return the job of the component with its inputs filled in, as GitLab does before it reads the YAML."""
    header, _, body = COMPONENT.read_text().partition("\n---\n")
    known = yaml.safe_load(header)["spec"]["inputs"]
    assert inputs.keys() <= known.keys()
    values = {name: inputs.get(name, one.get("default")) for name, one in known.items()}
    filled = re.sub(r"\$\[\[ inputs\.([\w-]+) \]\]", lambda match: values[match[1]], body)
    job: dict[str, Any] = yaml.safe_load(filled)
    return job


def test_the_files_follow_the_official_schemas(tmp_path: Path) -> None:
    assert check_schema("vendor.github-actions", ACTION) == ""
    job = tmp_path / "job.yml"
    job.write_text(yaml.safe_dump(component(casabinder="wheel", registry="r.example.org/fac")))
    header = tmp_path / "header.yml"
    header.write_text(COMPONENT.read_text().partition("\n---\n")[0])
    assert check_schema("vendor.gitlab-ci", job, header) == ""
    # The check can fail.
    broken = tmp_path / "action.yml"
    broken.write_text(ACTION.read_text().replace("using: composite", "using: magic"))
    assert check_schema("vendor.github-actions", broken) != ""
    job.write_text(job.read_text().replace("when: always", "when: sometimes"))
    assert check_schema("vendor.gitlab-ci", job) != ""


def test_the_action_builds_pushes_and_tells(site: CiSite, tmp_path: Path) -> None:
    commit = site.commit("acted", {"requirements.txt": "extra==1.0\n"})
    run = run_action(
        ACTION,
        site.checkout("acted"),
        installed(tmp_path),
        {
            "registry": site.prefix,
            "username": LOGIN[0],
            "password": LOGIN[1],
            "base": site.base,
            "tags": "main\n  v1.0",
            "push": "true",
            "service": "https://hub.example.org",
        },
        site.environment(
            GITHUB_ACTIONS="true",
            GITHUB_SERVER_URL=f"http://{site.git.address}",
            GITHUB_REPOSITORY="team/acted",
            GITHUB_REF="refs/heads/main",
            GITHUB_SHA=commit,
            GITHUB_EVENT_NAME="push",
        ),
    )
    assert run.status == 0, run.log
    assert run.ran == ["Install casabinder", "Build, push and test"]
    assert run.used == ["actions/cache@v4"]
    assert run.outputs["pushed"] == "true"
    assert run.outputs["commit"] == commit
    assert (run.outputs["launch-url"], "No launch badge: " in run.summary) == ("", True)
    assert run.summary.startswith("## casabinder: built\n")
    assert LOGIN[1] not in run.log + run.summary
    repository = run.outputs["image"].partition("/")[2].rpartition(":")[0]
    with site.store as store:
        for tag in ("main", "v1.0", run.outputs["image-id"]):
            found = store.head_manifest(repository, tag)
            assert found is not None
            assert found.digest == run.outputs["digest"]


def test_the_action_shows_what_was_refused(site: CiSite, tmp_path: Path) -> None:
    commit = site.commit("refused", {"requirements.txt": "extra=>1\n"})
    environment = site.environment(GITHUB_ACTIONS="true", GITHUB_REPOSITORY="team/refused", GITHUB_SHA=commit)
    scratch = installed(tmp_path)
    inputs = {"registry": site.prefix, "base": site.base, "cache": "false"}
    run = run_action(ACTION, site.checkout("refused"), scratch, inputs, environment)
    assert (run.status, run.used) == (1, [])
    assert "::error title=casabinder::requirements.txt, line 1" in run.log
    assert run.summary.startswith("## casabinder: build refused")
    assert run.outputs["pushed"] == "false"
    run = run_action(ACTION, site.checkout("refused"), scratch, {**inputs, "push": "sometimes"}, environment)
    assert run.status == 2
    assert "write auto, true or false" in run.log


def test_the_component_builds_pushes_and_reports(site: CiSite, tmp_path: Path) -> None:
    commit = site.commit("component", {"requirements.txt": "extra==1.0\n"})
    checkout = site.checkout("component")
    (job,) = component(casabinder="unused", registry=site.prefix, base=site.base, tags="main v2", push="must").values()
    predefined = {
        "GITLAB_CI": "true",
        "CI_PROJECT_DIR": str(checkout),
        "CI_PROJECT_URL": f"http://{site.git.address}/team/component",
        "CI_COMMIT_SHA": commit,
        "CI_COMMIT_BRANCH": "main",
        "CI_REGISTRY": site.registry.address,
        "CI_REGISTRY_USER": LOGIN[0],
        "CI_REGISTRY_PASSWORD": LOGIN[1],
    }
    variables = {
        name: re.sub(r"\$(CI_\w+)", lambda match: predefined[match[1]], str(value))
        for name, value in job["variables"].items()
    }
    environment = site.environment(**predefined, **{**variables, "PATH": f"{VENV}:{os.environ['PATH']}"})
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join([*job["before_script"], *job["script"]])],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    report = checkout / job["artifacts"]["reports"]["dotenv"]
    values = dict(line.split("=", 1) for line in report.read_text().splitlines())
    assert (values["CASABINDER_PUSHED"], values["CASABINDER_COMMIT"]) == ("true", commit)
    assert [(checkout / path).read_text()[:13] for path in job["artifacts"]["paths"]] == ["## casabinder"]
    assert LOGIN[1] not in done.stdout + done.stderr
    assert shlex.split(values["CASABINDER_IMAGE"]) == [values["CASABINDER_IMAGE"]]
