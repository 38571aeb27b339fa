"""The command line: usage, one sentence for errors, JSON for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from base_images.definition import catalogue
from launcher.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CASABINDER_SITE", raising=False)


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, launcher.cli\n"
        "launcher.cli._parser().format_help()\n"
        "print(','.join(sorted({'httpx', 'git', 'pydantic', 'tornado', 'yaml'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("arguments", [[], ["build"], ["frobnicate"], ["launch", "x", "--workers", "-1"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: casabinder" in capsys.readouterr().err


def test_an_error_is_one_sentence_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(tmp_path / "nowhere"), "--registry", f"oci:{tmp_path / 'images'}"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("casabinder: there is no directory")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_with_json_the_error_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(tmp_path / "nowhere"), "--json", "--registry", f"oci:{tmp_path / 'images'}"]) == 1
    assert "there is no directory" in json.loads(capsys.readouterr().out)["error"]


def test_bases_are_listed_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["base", "list", "--json", "--registry", f"oci:{tmp_path / 'images'}"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["digest"] for row in rows} == dict.fromkeys(catalogue())
    assert {row["name"]: row["python"] for row in rows}["coffea-cuda-py313"] == "3.13", "that of what it extends"
    assert [row["name"] for row in rows if row["default"]] == ["coffea-py313"]


def test_a_base_that_is_not_built_is_shown_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["base", "show", "coffea-py311", "--registry", f"oci:{tmp_path / 'images'}"]) == 0
    assert "casabinder base build coffea-py311" in capsys.readouterr().out
    assert (
        main(["base", "push", "coffea-py311", f"oci:{tmp_path / 'there'}", "--registry", f"oci:{tmp_path / 'x'}"]) == 1
    )
    assert "not built yet" in capsys.readouterr().err
    assert main(["base", "size", "coffea-py311", "--registry", f"oci:{tmp_path / 'x'}"]) == 1
    assert "not built yet: run `casabinder base build coffea-py311`" in capsys.readouterr().err


def test_an_oci_layout_can_not_be_launched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", str(tmp_path), "--registry", f"oci:{tmp_path / 'images'}"]) == 1
    assert "launch from a registry" in capsys.readouterr().err


def test_stop_wants_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "--registry", f"oci:{tmp_path / 'images'}"]) == 1
    assert "--all" in capsys.readouterr().err
