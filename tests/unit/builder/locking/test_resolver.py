"""uv as a resolver: its options, and what is made of its errors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from builder.locking.pylock import LockError, read_pylock, write_pylock
from builder.locking.resolver import PackageIndex, resolve
from registry_sync.errors import CasabinderError
from tests.testbed.packages import Index, built_wheel, running_index
from tests.testbed.tiny_base import TARGET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def index() -> Iterator[Index]:
    wheels = [built_wheel("a", version, requires=["b"]) for version in ("1.0", "2.0")] + [built_wheel("b")]
    with running_index(wheels) as running:
        yield running


def resolved(index: Index, cache: Path, *lines: str, **options: object) -> dict[str, str]:
    packages = PackageIndex(url=index.url, cache=cache)
    text = resolve([("user.in", "\n".join(lines))], TARGET, packages, **options)  # type: ignore[arg-type]
    return {package.name: package.version for package in read_pylock(text, TARGET)}


def test_the_newest_is_taken_unless_something_speaks_against_it(index: Index, tmp_path: Path) -> None:
    assert resolved(index, tmp_path, "a") == {"a": "2.0", "b": "1.0"}
    assert resolved(index, tmp_path, "a", constraints="a<2\nb==1.0\n") == {"a": "1.0", "b": "1.0"}
    earlier = write_pylock([index.locked(index.wheels[0]), index.locked(index.wheels[2])], TARGET)
    assert resolved(index, tmp_path, "a", preferences=earlier) == {"a": "1.0", "b": "1.0"}
    assert resolved(index, tmp_path, "a>1", preferences=earlier) == {"a": "2.0", "b": "1.0"}
    assert resolved(index, tmp_path, "a==1.0", dependencies=False) == {"a": "1.0"}


def test_the_users_own_settings_of_uv_do_not_matter(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text("resolution = 'lowest'\n")
    assert resolved(index, tmp_path / "cache", "a")["a"] == "2.0"
    assert os.environ["UV_OFFLINE"] == "1"


def test_a_refusal_is_in_uvs_words_on_one_line(index: Index, tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"^Because .* you require a==3.* unsatisfiable\.$"):
        resolved(index, tmp_path, "a==3")


@pytest.mark.parametrize("status", [0, 500])
def test_an_index_that_does_not_answer_is_not_a_refusal(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    if status:
        index.faults["/simple/a/"] = status
    else:
        index.url = "http://127.0.0.1:9/simple"
    packages = PackageIndex(url=index.url, cache=tmp_path, environment={"UV_HTTP_RETRIES": "0"})
    with pytest.raises(
        CasabinderError, match="the package index could not be asked, so nothing was resolved"
    ) as caught:
        resolve([("user.in", "a")], TARGET, packages)
    assert not isinstance(caught.value, LockError)
