"""What is told of a run: the summary as golden files, outputs, exit statuses.

``CASABINDER_GOLDEN=write pytest tests/unit/launcher/ci`` writes the golden files anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from builder.attachments.difference import Difference, PackageChange
from builder.attachments.sbom import Component, Contents
from launcher.ci.change import Change
from launcher.ci.outcome import Outcome, dotenv_lines, github_annotation, github_lines, outputs
from launcher.ci.smoke import Check, SmokeReport
from launcher.ci.summary import summary
from launcher.ci.surroundings import Surroundings
from tests.unit.launcher.records import record

GOLDEN = Path(__file__).parent / "golden"
RECORD = record(
    bytes={"total": 410_000_000, "new": 3_200_000, "uploaded": 3_100_000}, seconds={"total": 12.34}, commit="2" * 40
)
CONTENTS = Contents(
    base_name="coffea-py313",
    base_digest=f"sha256:{'b' * 64}",
    python="3.13.5",
    components=(
        Component("mplhep", "1.0", "analysis", "replaced"),
        Component("particle", "0.26", "analysis", "added"),
        Component("numpy", "2.3.0", "analysis"),
    ),
    removed=("mplhep-data",),
)
CHANGE = Change(
    "1" * 40,
    f"sha256:{'e' * 64}",
    Difference(
        (
            PackageChange("analysis", "particle", "", "0.26"),
            PackageChange("analysis", "mplhep", "0.9", "1.0"),
            PackageChange("analysis", "vector", "1.6", ""),
            PackageChange("analysis", "own", "1.0", "1.0"),
            PackageChange("system", "libc6", "2.41-1", "2.41-2"),
        ),
        base=("coffea-py313@sha256:a", "coffea-py313@sha256:b"),
        tree=("a", "b"),
        digest=("sha256:e", "sha256:d"),
    ),
)
BUILT = Outcome(
    Surroundings("github"),
    "https://github.com/team/agc-ttbar",
    commit="2" * 40,
    record=RECORD,
    contents=CONTENTS,
    smoke=SmokeReport("passed", (Check("import particle", passed=True),)),
    change=CHANGE,
    tags=("registry.example.org/fac/agc-ttbar-0a1b2c:main",),
    service="https://hub.example.org",
    launch="https://hub.example.org/v2/gh/team/agc-ttbar/main",
)
FAILED = replace(
    BUILT,
    change=None,
    unknown_change="none of the 3 commits before this one was built",
    tags=(),
    unpushed="this is a pull request from a fork, whose code never gets the registry's credentials",
    smoke=SmokeReport(
        "failed",
        (
            Check("image-tests", passed=False, said="a ``` fence\n<b>and</b> \x1b[31mmarkup"),
            Check("`tick` | bar", passed=True),
        ),
    ),
)
REFUSED = Outcome(
    Surroundings("plain"),
    "https://github.com/team/agc-ttbar",
    error="requirements.txt, line 1: 'a=>1' is not a requirement; [click](https://evil.example)",
)


@pytest.mark.parametrize(("name", "outcome"), [("built", BUILT), ("failed", FAILED), ("refused", REFUSED)])
def test_the_summary(name: str, outcome: Outcome) -> None:
    file = GOLDEN / f"{name}.md"
    if os.environ.get("CASABINDER_GOLDEN") == "write":
        file.write_text(summary(outcome))
    assert summary(outcome) == file.read_text()


def test_a_build_that_changed_nothing_says_so() -> None:
    same = replace(BUILT, change=replace(CHANGE, difference=Difference(())), record=replace(RECORD, cached=True))
    assert "Nothing: it is the same image." in summary(same)
    assert summary(same).startswith("## casabinder: was built before\n")
    assert outputs(same)["changed"] == "false"


def test_without_a_link_the_summary_says_why() -> None:
    unlinked = summary(replace(BUILT, launch="", unlinked="this is the image of a subdirectory"))
    assert "No launch badge: this is the image of a subdirectory\n" in unlinked
    assert "badge_logo" not in unlinked


def test_the_outputs() -> None:
    values = outputs(BUILT)
    assert values == {
        "image": RECORD.image,
        "digest": RECORD.digest,
        "env-id": RECORD.env_id,
        "image-id": RECORD.image_id,
        "commit": "2" * 40,
        "pushed": "true",
        "cached": "false",
        "smoke-test": "passed",
        "changed": "true",
        "launch-url": BUILT.launch,
    }
    assert f"image={RECORD.image}\ndigest={RECORD.digest}\n" in github_lines(values)
    assert f"CASABINDER_ENV_ID={RECORD.env_id}\n" in dotenv_lines(values)
    assert outputs(FAILED)["pushed"] == "false"
    assert json.loads(json.dumps(BUILT.to_json()))["change"]["packages"][0]["name"] == "particle"


def test_no_output_can_make_up_another_one() -> None:
    values = outputs(replace(BUILT, launch="https://hub\nimage=evil"))
    assert github_lines(values).count("\n") == len(values)
    assert github_annotation("error", "a\n::set-output::100%") == "::error title=casabinder::a%0A::set-output::100%25"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(BUILT, 0), (replace(FAILED, smoke=BUILT.smoke), 0), (FAILED, 3), (REFUSED, 1), (replace(REFUSED, fault=True), 4)],
)
def test_the_exit_status(outcome: Outcome, status: int) -> None:
    assert outcome.status == status
