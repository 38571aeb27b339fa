"""What a build makes in the engine says whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.container.engine import ContainerLimits
from builder.container.step import BUILD_LABEL, LABEL, Step, StepError, finished_container, labels

if TYPE_CHECKING:
    from pathlib import Path

SLOW_START = """\
#!/bin/sh
cd "${0%/*}"
case "$1" in
info) echo 2 ;;
start)
  turns=0
  while [ ! -e killed ] && [ $turns -lt 500 ]; do sleep 0.01; turns=$((turns + 1)); done
  exit STATUS
  ;;
kill)
  if [ -e tried ]; then touch killed; else touch tried; echo "it is not running" >&2; exit 1; fi
  ;;
container) echo '[{"State": {"ExitCode": STATUS, "Error": ""}}]' ;;
esac
"""


def test_a_build_with_a_name_puts_it_on_what_it_makes() -> None:
    (ends,) = labels(ContainerLimits())
    assert ends.startswith(f"--label={LABEL}=")
    assert labels(ContainerLimits(build="job7"))[1:] == [f"--label={BUILD_LABEL}=job7"]


@pytest.mark.parametrize("status", [137, 0])
def test_a_container_that_starts_after_its_time_is_ended_too(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "docker"
    fake.write_text(SLOW_START.replace("STATUS", str(status)))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr("builder.container.step._KILL_PAUSE", 0.01, raising=False)
    step, said = Step("postBuild", "image", "true", "1000:1000"), list[str]()
    with (
        pytest.raises(StepError, match="postBuild was still running after 0 s"),
        finished_container(step, ContainerLimits(seconds=0), said.append),
    ):
        pass
    assert (tmp_path / "killed").exists()
