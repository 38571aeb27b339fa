"""What the commands that have to do with a pool refuse before they ask anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launcher.cli import main

if TYPE_CHECKING:
    from pathlib import Path

POOL = (
    "pool: {kind: htcondor, collector: '127.0.0.1:9', schedd: s@d, trust_domain: d, signing_key: POOL, user: alice,"
    " universe: %s}\n"
)
IMAGE = "registry.example.org/casabinder/x"


@pytest.mark.parametrize(
    ("site", "command", "sentence"),
    [
        ("", "launch /none --gpus 1", "--gpus is for workers in an HTCondor pool: see `pool` in site.yaml"),
        ("", "launch /none --pool htcondor", "this site has no HTCondor pool"),
        ("", f"prepull {IMAGE}:1", "this site has no HTCondor pool"),
        (POOL % "docker", f"prepull {IMAGE}@sha256:{'0' * 64}", "HTCondor can't keep an image that is named by digest"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], site: str, command: str, sentence: str
) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(f"registry: registry.example.org/casabinder\n{site}")
    assert main([*command.split(), "--site", str(file)]) == 1
    assert sentence in capsys.readouterr().err
