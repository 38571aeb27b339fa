"""Calling uv: what it gets to see, and that it ends."""

from pathlib import Path

import pytest

from builder.uv import run_uv


def test_uv_answers(tmp_path: Path) -> None:
    status, written, said = run_uv(["version", "--project", str(tmp_path)], tmp_path, 60)
    assert status != 0
    assert written == ""
    assert "pyproject.toml" in said
    assert "\x1b" not in said


def test_the_users_own_settings_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "theirs"))
    assert run_uv(["cache", "dir"], tmp_path, 60)[1].strip() != str(tmp_path / "theirs")
    given = {"UV_CACHE_DIR": str(tmp_path / "given")}
    assert run_uv(["cache", "dir"], tmp_path, 60, given)[1].strip() == str(tmp_path / "given")


def test_it_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="did not end within 0 s"):
        run_uv(["cache", "dir"], tmp_path, 0)
