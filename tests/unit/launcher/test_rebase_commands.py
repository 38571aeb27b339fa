"""What ``casabinder rebase --all`` prints, and its exit statuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from launcher.cli import _parser
from launcher.rebase_commands import checked_day, rebase
from registry_sync.errors import CasabinderError, RegistryError
from tests.unit.builder.conftest import CORE, PLOTS, Workbench, workbench
from tests.unit.builder.test_rebase import FONTS_PATCHED, patched
from tests.unit.launcher.test_inspect_commands import context_of

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["workbench"]  # a fixture


def arguments(*words: str) -> Namespace:
    return _parser().parse_args(["rebase", "--base", "patched", *words])


def test_the_summary(workbench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    record = workbench.run({"requirements.txt": "extra==1.0\n"})
    context = context_of(workbench, patched(workbench, CORE, PLOTS, FONTS_PATCHED))
    assert rebase(context, arguments("--all", "--dry-run")) == 0
    said = capsys.readouterr()
    assert "would move 1, already there 0, to be built again 0, failed 0 (" in said.out
    assert said.err == f"1/1 moved      {record.repo} {record.commit[:12]}\n"
    assert rebase(context, arguments("--all", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["moved"], found["failed"], found["dry_run"]) == (1, 0, False)
    assert found["requests"] is None  # a directory is asked nothing
    (image,) = found["images"]
    assert image["before"] == record.digest
    assert rebase(context, arguments("--all")) == 0
    assert "moved 0, already there 1, to be built again 0, failed 0, 1 superseded" in capsys.readouterr().out


def test_a_rebuild_is_no_failure_and_a_fault_is_one(workbench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    workbench.run({"requirements.txt": "fonts<1.1\n"})
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    context = context_of(workbench, choice)
    assert rebase(context, arguments("--all")) == 0
    out = capsys.readouterr().out
    assert out.startswith("to be built again:\n  ")
    assert "the new base has fonts 1.1; build it again" in out
    workbench.run({"requirements.txt": "extra==1.0\n"})

    class Faulty:
        def __getattr__(self, name: str) -> object:
            return getattr(workbench.store, name)

        def put_blob(self, *_: object) -> None:
            raise RegistryError("the registry is full")

    context.facility = replace(workbench.facility, store=Faulty())  # type: ignore[misc, arg-type]
    assert rebase(context, arguments("--all")) == 1
    assert "the registry is full" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "give one image"),
        (("a/b:c", "a/b:d"), "give one image"),
        (("a/b:c", "--dry-run"), "give one image"),
        (("--all", "--since", "yesterday"), "'yesterday' is no day"),
        (("--all", "UPPER"), "UPPER"),
    ],
)
def test_what_is_not_understood(workbench: Workbench, words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(CasabinderError, match=reason):
        rebase(context_of(workbench), arguments(*words))


def test_a_day_is_compared_as_records_have_it() -> None:
    assert checked_day("2026-09-05") == "2026-09-05"
    assert checked_day("2026-9-5") == "2026-09-05"
