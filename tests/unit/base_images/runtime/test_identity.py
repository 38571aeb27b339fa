from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.errors import IdentityError
from casabinder_runtime.identity import Base, read_identity

from tests.testbed.identity import ENV_ID, write_identity

if TYPE_CHECKING:
    from pathlib import Path


def test_every_field_is_read(tmp_path: Path) -> None:
    identity = read_identity(write_identity(tmp_path / "env.json"))
    assert (identity.env_id, identity.recipe) == (ENV_ID, 1)
    assert identity.base == Base("coffea-py313", "sha256:" + "3" * 64)


def test_a_field_of_a_newer_builder_does_no_harm(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "env.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "blue"}))
    assert read_identity(path).env_id == ENV_ID


def test_a_missing_file_is_not_an_image_of_ours(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"env\.json does not exist: this is not an image made by casabinder build"):
        read_identity(tmp_path / "env.json")


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "Expecting"), ("{}", "no env_id, image_id"), ("[]", "no env_id"), ("3", "not iterable")]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "env.json"
    path.write_text(text)
    with pytest.raises(IdentityError, match=rf"env\.json is damaged \(.*{reason}"):
        read_identity(path)
