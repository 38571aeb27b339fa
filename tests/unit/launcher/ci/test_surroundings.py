"""What the environments of CIs say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.ci.run import CiOptions, withheld
from launcher.ci.surroundings import Surroundings, public_address, read_surroundings, with_origin

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "team/analysis",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_SHA": "a" * 40,
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_OUTPUT": "/runner/output",
    "GITHUB_STEP_SUMMARY": "/runner/summary",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_URL": "https://gitlab.example.org/group/analysis",
    "CI_COMMIT_SHA": "b" * 40,
    "CI_PIPELINE_SOURCE": "push",
    "CI_COMMIT_BRANCH": "feature/x",
}
JENKINS = {
    "JENKINS_URL": "https://ci.example.org/",
    "GIT_URL": "git@github.com:team/analysis.git",
    "GIT_BRANCH": "origin/main",
    "GIT_COMMIT": "c" * 40,
}


def test_github() -> None:
    assert read_surroundings(GITHUB) == Surroundings(
        "github",
        "https://github.com/team/analysis",
        "refs/heads/main",
        "a" * 40,
        summary=Path("/runner/summary"),
        outputs=Path("/runner/output"),
    )


@pytest.mark.parametrize(
    ("head", "foreign"),
    [
        ({"repo": {"full_name": "team/analysis"}}, False),
        ({"repo": {"full_name": "stranger/analysis"}}, True),
        ({"repo": None}, True),  # the fork was deleted
        ({}, True),
    ],
)
@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
def test_a_pull_request_of_github_is_foreign_unless_its_head_is_here(
    head: dict[str, object], foreign: bool, event: str, tmp_path: Path
) -> None:
    file = tmp_path / "event.json"
    file.write_text(json.dumps({"pull_request": {"head": head}}))
    stated = {**GITHUB, "GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": str(file)}
    assert read_surroundings(stated).foreign is foreign


def test_a_pull_request_that_cannot_be_read_is_foreign(tmp_path: Path) -> None:
    stated = {**GITHUB, "GITHUB_EVENT_NAME": "pull_request"}
    assert read_surroundings(stated).foreign
    (tmp_path / "event.json").write_text("[")
    assert read_surroundings({**stated, "GITHUB_EVENT_PATH": str(tmp_path / "event.json")}).foreign


@pytest.mark.parametrize(
    ("run", "foreign"),
    [
        ({"head_repository": {"full_name": "team/analysis"}}, False),
        ({"head_repository": {"full_name": "stranger/analysis"}}, True),
        ({"head_repository": None}, True),
        ({}, True),
    ],
)
def test_what_follows_a_run_of_a_fork_is_foreign(run: dict[str, object], foreign: bool, tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    file.write_text(json.dumps({"workflow_run": run}))
    found = read_surroundings({**GITHUB, "GITHUB_EVENT_NAME": "workflow_run", "GITHUB_EVENT_PATH": str(file)})
    assert (found.foreign, found.doubtful) == (foreign, False)
    assert bool(withheld(CiOptions(push="must"), found)) is foreign


@pytest.mark.parametrize(
    ("issue", "doubtful"), [({"number": 1}, False), ({"number": 1, "pull_request": {"url": "..."}}, True), (None, True)]
)
def test_a_comment_at_a_pull_request_says_not_whose_it_is(
    issue: dict[str, object] | None, doubtful: bool, tmp_path: Path
) -> None:
    file = tmp_path / "event.json"
    file.write_text(json.dumps({"issue": issue}))
    stated = {**GITHUB, "GITHUB_EVENT_NAME": "issue_comment", "GITHUB_EVENT_PATH": str(file)}
    found = read_surroundings(stated)
    assert (found.foreign, found.doubtful) == (False, doubtful)
    assert bool(withheld(CiOptions(), found)) is doubtful
    assert withheld(CiOptions(push="must"), found) == ""


def test_gitlab() -> None:
    found = read_surroundings(GITLAB)
    assert found == Surroundings(
        "gitlab", "https://gitlab.example.org/group/analysis", "refs/heads/feature/x", "b" * 40
    )
    tag = {**GITLAB, "CI_COMMIT_BRANCH": "", "CI_COMMIT_TAG": "v1"}
    assert read_surroundings(tag).ref == "refs/tags/v1"


@pytest.mark.parametrize(("source", "foreign"), [("7", False), ("8", True), ("", True)])
def test_a_merge_request_of_gitlab(source: str, foreign: bool) -> None:
    stated = {
        **GITLAB,
        "CI_COMMIT_BRANCH": "",
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_REF_PATH": "refs/merge-requests/3/head",
        "CI_MERGE_REQUEST_PROJECT_ID": "7",
        "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": source,
    }
    found = read_surroundings(stated)
    assert (found.ref, found.foreign) == ("refs/merge-requests/3/head", foreign)


def test_jenkins() -> None:
    found = read_surroundings(JENKINS)
    assert found == Surroundings("jenkins", "https://github.com/team/analysis", "refs/heads/main", "c" * 40)
    assert read_surroundings({**JENKINS, "TAG_NAME": "v1"}).ref == "refs/tags/v1"
    assert read_surroundings({**JENKINS, "CHANGE_FORK": "stranger"}).foreign


def test_a_pull_request_in_jenkins_has_a_branch_or_none() -> None:
    stated = {**JENKINS, "GIT_BRANCH": "PR-12", "CHANGE_ID": "12", "CHANGE_BRANCH": "feature/x"}
    found = read_surroundings(stated)
    assert (found.ref, found.foreign) == ("refs/heads/feature/x", False)
    found = read_surroundings({**stated, "CHANGE_FORK": "stranger"})
    assert (found.ref, found.foreign) == ("", True)
    assert read_surroundings({**stated, "CHANGE_BRANCH": ""}).ref == ""


def test_anything_else_says_nothing_and_the_origin_is_taken() -> None:
    plain = read_surroundings({"CI": "true"})
    assert plain == Surroundings()
    assert with_origin(plain, "https://robot:token@git.example.org/a/b.git").url == "https://git.example.org/a/b"
    assert with_origin(read_surroundings(GITHUB), "/somewhere").url == "https://github.com/team/analysis"


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("https://github.com/team/analysis.git", "https://github.com/team/analysis"),
        ("https://github.com/team/analysis/", "https://github.com/team/analysis"),
        ("git@gitlab.com:group/sub/analysis.git", "https://gitlab.com/group/sub/analysis"),
        ("ssh://git@git.example.org:2222/a/b.git", "https://git.example.org/a/b"),
        ("http://127.0.0.1:8080/a/b.git", "http://127.0.0.1:8080/a/b"),
        ("/home/me/analysis", ""),
        ("file:///home/me/analysis", ""),
        ("", ""),
    ],
)
def test_the_public_address_of_an_origin(origin: str, address: str) -> None:
    assert public_address(origin) == address
