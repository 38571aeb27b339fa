"""What people see of images that are there, and the exit statuses."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from launcher.cli import _parser
from launcher.inspect_commands import diff_images, inspect_image, verify_image
from launcher.rebase_commands import rebase
from tests.unit.builder.conftest import CORE, PLOTS, Workbench, workbench
from tests.unit.builder.test_rebase import FONTS_PATCHED, patched

if TYPE_CHECKING:
    from argparse import Namespace

    import pytest

    from builder.facility import BaseChoice
    from launcher.context import Context

__all__ = ["workbench"]  # a fixture


def context_of(workbench: Workbench, choice: BaseChoice | None = None) -> Context:
    from builder.facility import Bases

    bases = Bases.only(choice or workbench.choice)
    return cast("Context", SimpleNamespace(facility=workbench.facility, bases=lambda *_: bases))


def arguments(*words: str) -> Namespace:
    return _parser().parse_args(words)


def test_an_image_is_shown_compared_verified_and_rebased(
    workbench: Workbench, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    record = workbench.run({"requirements.txt": "extra==1.0\ncore<2\n"})
    context = context_of(workbench)
    assert inspect_image(context, arguments("inspect", record.image)) == 0
    shown = capsysbinary.readouterr().out.decode()
    for text in (record.digest, record.env_id, "added extra 1.0", "replaces the base's core 1.0", "reproducible  yes"):
        assert text in shown
    assert inspect_image(context, arguments("inspect", record.image, "--lock")) == 0
    assert capsysbinary.readouterr().out.startswith(b'lock-version = "1.0"')
    assert inspect_image(context, arguments("inspect", record.image, "--json")) == 0
    assert json.loads(capsysbinary.readouterr().out)["digest"] == record.digest
    assert inspect_image(context, arguments("inspect", "registry.test/fac/bases/tiny:current")) == 0
    assert "carries an inventory" in capsysbinary.readouterr().out.decode()
    assert verify_image(context, arguments("verify", record.image)) == 0
    assert "was made again, byte for byte" in capsysbinary.readouterr().out.decode()

    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    command = arguments("rebase", record.image, "--base", "patched", "--json")
    assert rebase(context_of(workbench, choice), command) == 0
    moved = json.loads(capsysbinary.readouterr().out)["image"]
    assert diff_images(context, arguments("diff", record.image, record.image)) == 0
    assert "one image" in capsysbinary.readouterr().out.decode()
    assert diff_images(context, arguments("diff", record.image, moved)) == 1
    shown = capsysbinary.readouterr().out.decode()
    assert "~ fonts 1.0 -> 1.1" in shown
    assert "repository's files: the same" in shown
