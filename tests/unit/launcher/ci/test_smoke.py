"""What is tried in an image, the program that does it, and what is read of what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from builder.attachments.sbom import Component, Contents
from builder.environment.spec import EnvironmentSpec, RepositorySettings, StatedLock, StatedRequirement
from builder.repository.checkout import checkout, resolve_ref
from builder.repository.spec import RepoSpec
from launcher.ci import inside_image
from launcher.ci.inside_image import CHECK, DONE
from launcher.ci.smoke import Check, SmokePlan, SmokeReport, plan_smoke_test, read_report
from tests.testbed.git_repository import commit_files

if TYPE_CHECKING:
    from builder.repository.tree import Tree

CONTENTS = Contents(
    "tiny",
    "sha256:b",
    "3.13.5",
    (
        Component("numpy", "2.3", "analysis"),
        Component("extra-plots", "1.0", "analysis", "added", requires=("Needed.Too>=1", "numpy")),
        Component("needed-too", "1.0", "analysis", "added"),
        Component("jupyterlab", "4", "server"),
    ),
)


def tree_of(directory: Path, files: dict[str, str], subdirectory: str = "") -> Tree:
    commit_files(directory / "repo", files)
    return checkout(resolve_ref(RepoSpec(str(directory / "repo"), subdirectory=subdirectory)), directory / "cache")


def stated(*lines: str) -> tuple[StatedRequirement, ...]:
    return tuple(StatedRequirement(Requirement(line), "requirements.txt, line 1") for line in lines)


def test_declared_packages_and_named_notebooks(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, {"a.ipynb": ""})
    spec = EnvironmentSpec(
        "requirements",
        requirements=stated("Extra_Plots>=1", "numpy", "winonly; sys_platform == 'win32'", "jupyterlab"),
        settings=RepositorySettings(notebooks=("a.ipynb",)),
    )
    assert plan_smoke_test(spec, tree, CONTENTS) == SmokePlan(("extra-plots", "numpy"), ("a.ipynb",))
    assert plan_smoke_test(EnvironmentSpec("none"), tree, CONTENTS).empty


def test_of_a_lock_what_nothing_else_requires(tmp_path: Path) -> None:
    spec = EnvironmentSpec("uv", lock=StatedLock("uv.lock"))
    assert plan_smoke_test(spec, tree_of(tmp_path, {}), CONTENTS) == SmokePlan(("extra-plots",))


def test_tests_of_the_repository_are_all_that_is_run(tmp_path: Path) -> None:
    spec = EnvironmentSpec("requirements", requirements=stated("numpy"))
    files = {"image-tests/test_a.py": "", "sub/image-tests/b.sh": "", "other/c": ""}
    assert plan_smoke_test(spec, tree_of(tmp_path, files), CONTENTS) == SmokePlan(tests="image-tests")
    below = tree_of(tmp_path, files, "sub")
    assert plan_smoke_test(spec, below, CONTENTS) == SmokePlan(tests="sub/image-tests")
    assert plan_smoke_test(spec, tree_of(tmp_path, files, "other"), CONTENTS) == SmokePlan(tests="image-tests")


def run_inside(directory: Path, **plan: object) -> list[str]:
    """Run the program as a container does, with this Python."""
    whole = {"packages": [], "notebooks": [], "tests": "", "left_out": [], **plan}
    done = subprocess.run(
        [sys.executable, "-", json.dumps(whole)],
        input=Path(inside_image.__file__).read_bytes(),
        capture_output=True,
        cwd=directory,
        check=False,
        timeout=60,
    )
    return done.stdout.decode().splitlines()


def test_the_program_imports_and_says_what_went_wrong(tmp_path: Path) -> None:
    report = read_report(run_inside(tmp_path, packages=["PyYAML", "packaging", "no-such-package"]))
    assert report.state == "failed"
    assert report.checks == (
        Check("import PyYAML", passed=True),
        Check("import packaging", passed=True),
        Check("import no-such-package", passed=False, said="it is not installed"),
    )


def test_modules_may_be_left_out(tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / f"{name}.py").write_text("" if name == "whole" else "raise ImportError('no GPU')\n")
    info = tmp_path / "both-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: both\nVersion: 1\n")
    (info / "RECORD").write_text("whole.py,,\nbroken.py,,\n")
    assert read_report(run_inside(tmp_path, packages=["both"])).checks[0].said == "ImportError: no GPU"
    assert read_report(run_inside(tmp_path, packages=["both"], left_out=["broken"])).state == "passed"


def test_the_program_runs_tests_and_scripts(tmp_path: Path) -> None:
    tests = tmp_path / "image-tests"
    tests.mkdir()
    (tests / "test_a.py").write_text("def test_a():\n    assert True\n")
    (tests / "fails.sh").write_text("echo 'what went wrong' >&2; exit 7\n")
    (tests / "works.sh").write_text("true\n")
    report = read_report(run_inside(tmp_path, tests="image-tests"))
    assert [(check.name, check.passed) for check in report.checks] == [
        ("image-tests", True),
        ("image-tests/fails.sh", False),
        ("image-tests/works.sh", True),
    ]
    assert report.checks[1].said == "what went wrong"


@pytest.mark.parametrize("files", [[], ["check.py", "data.txt"]])
def test_a_directory_without_tests_is_no_test_passed(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "image-tests").mkdir()
    for name in files:
        (tmp_path / "image-tests" / name).touch()
    report = read_report(run_inside(tmp_path, tests="image-tests"))
    assert report == SmokeReport(
        "failed", (Check("image-tests", passed=False, said="it has no test_*.py, *_test.py, *.sh or notebook"),)
    )


@pytest.mark.parametrize(
    ("name", "module"), [("PyYAML", "yaml"), ("packaging", "packaging"), ("python-dateutil", "dateutil")]
)
def test_the_modules_of_a_distribution(name: str, module: str) -> None:
    assert module in inside_image.modules_of(name)


def test_a_program_that_died_has_failed() -> None:
    good = CHECK + json.dumps({"name": "import a", "passed": True, "said": ""})
    report = read_report([good, "Segmentation fault"])
    assert (report.state, report.why) == ("failed", "it did not come to its end: Segmentation fault")
    assert read_report([]).state == "failed"
    assert read_report([good, DONE]).state == "passed"
    assert read_report([CHECK + "nonsense", DONE]).state == "failed"
