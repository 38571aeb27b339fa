from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[4] / "base_images" / "runtime" / "casabinder-entrypoint"


def run(
    *command: str, repository: Path, directory: str | Path = "/", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ENTRYPOINT), *command],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "REPO_DIR": str(repository), "HOME": str(repository), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def write_script(path: Path, text: str, *, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_arguments_reach_the_command_unchanged_and_so_does_its_status(tmp_path: Path) -> None:
    result = run("sh", "-c", 'printf "[%s]" "$@"; exit 7', "sh", "a b", "", "$HOME", repository=tmp_path)
    assert (result.stdout, result.returncode) == ("[a b][][$HOME]", 7)


def test_the_repository_is_the_working_directory_unless_another_was_asked_for(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert run("pwd", repository=tmp_path).stdout.strip() == str(tmp_path)
    assert run("pwd", repository=tmp_path, directory=other).stdout.strip() == str(other)


@pytest.mark.parametrize("home", ["", "/", "/nonexistent"])
def test_home_is_a_place_to_write_to(tmp_path: Path, home: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = run("sh", "-c", 'echo "$HOME"; touch "$HOME/x"', repository=tmp_path, HOME=home, TMPDIR=str(scratch))
    assert result.returncode == 0
    assert result.stdout.strip() in {str(scratch), "/home/jovyan"}


def test_a_good_home_is_kept(tmp_path: Path) -> None:
    assert run("sh", "-c", "echo $HOME", repository=tmp_path).stdout.strip() == str(tmp_path)


@pytest.mark.parametrize("place", ["start", "binder/start", ".binder/start"])
@pytest.mark.parametrize("mode", [0o755, 0o644])
def test_the_start_script_wraps_the_command(tmp_path: Path, place: str, mode: int) -> None:
    write_script(tmp_path / place, '#!/bin/bash\nexport GREETING=hello\nexec "$@"\n', mode=mode)
    result = run("sh", "-c", 'echo "$GREETING" "$1"', "sh", "you all", repository=tmp_path)
    assert result.stdout == "hello you all\n"


def test_a_binder_directory_hides_what_is_at_the_top(tmp_path: Path) -> None:
    write_script(tmp_path / "start", "#!/bin/sh\necho wrong\n")
    write_script(tmp_path / ".binder" / "start", "#!/bin/sh\necho wrong\n")
    (tmp_path / "binder").mkdir()
    assert run("echo", "right", repository=tmp_path).stdout == "right\n"


def test_without_a_command_it_says_so(tmp_path: Path) -> None:
    result = run(repository=tmp_path)
    assert result.returncode == 64
    assert "no command to run" in result.stderr
