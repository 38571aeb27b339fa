"""The names of images: what they depend on, and what they do not."""

import pytest

from builder.identity import alias_tag, env_id, image_id
from builder.locking.pylock import LockedPackage
from registry_sync.reference import validate_tag

BASE = "sha256:" + "0" * 64
ONE = LockedPackage("one", "1.0", "one-1.0-py3-none-any.whl", "1" * 64)
TWO = LockedPackage("two", "2.0", "two-2.0-py3-none-any.whl", "2" * 64)
ENV = env_id(BASE, "linux/amd64", [ONE, TWO])


def test_an_environment_is_its_base_platform_and_packages() -> None:
    assert ENV == "861e43e1c594f9d5"  # changes only with the recipe
    moved = LockedPackage("two", "2.0", "other-name.whl", "2" * 64, "https://elsewhere/", 5)
    assert env_id(BASE, "linux/amd64", [moved, ONE]) == ENV


@pytest.mark.parametrize(
    "other",
    [
        env_id("sha256:" + "1" * 64, "linux/amd64", [ONE, TWO]),
        env_id(BASE, "linux/arm64", [ONE, TWO]),
        env_id(BASE, "linux/amd64", [ONE]),
        env_id(BASE, "linux/amd64", [ONE, TWO], [["_casabinder_a.pth", "0"]]),
        env_id(BASE, "linux/amd64", [ONE, LockedPackage("two", "2.0", TWO.filename, "3" * 64)]),
    ],
)
def test_another_environment_has_another_name(other: str) -> None:
    assert other != ENV


def test_an_image_is_an_environment_with_a_tree() -> None:
    assert image_id(ENV, "a" * 40) != image_id(ENV, "b" * 40) != image_id("0" * 16, "b" * 40)
    assert len(image_id(ENV, "a" * 40)) == 16


def test_an_alias_is_a_tag_for_a_commit_and_options() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    tag = alias_tag(commit, {"base": "bases/x:current", "subdirectory": ""})
    assert validate_tag(tag) == tag
    assert tag.startswith("git-0123456789ab-")
    assert alias_tag(commit, {"base": "bases/x:current", "subdirectory": "a"}) != tag
    assert alias_tag(commit, {"subdirectory": "", "base": "bases/x:current"}) == tag
