"""The launch page's script and the command line make the same links and badges."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import launcher.service
from launcher.badge_commands import make_badges

pytestmark = pytest.mark.integration

NAMING = Path(launcher.service.__file__).parent / "static" / "naming.js"
HUB = "https://hub.example.org"
CASES: tuple[tuple[str, dict[str, str]], ...] = (
    ("team/repo", {}),
    ("https://github.com/team/repo", {"labpath": "a b/ü (1).ipynb"}),
    ("https://gitlab.com/a/b/c", {"urlpath": "git-pull?repo=https://x.org/r&branch=main~1"}),
    ("https://git.example.org/it's/*.git", {"filepath": "x"}),
    ("10.5281/zenodo.3242074", {}),
)
SCRIPT = """
globalThis.window = {};
globalThis.location = { origin: process.argv[2] };
const { launchPath, readLink, shared } = await import(process.argv[1]);
const cases = JSON.parse(process.argv[3]);
const made = cases.map(([link, opens]) => {
  const { provider, spec } = readLink(link);
  return shared(location.origin + launchPath({ provider, spec, parameters: new URLSearchParams(opens) }));
});
process.stdout.write(JSON.stringify(made));
"""


def test_both_make_the_same() -> None:
    """From the same repository and parameters."""
    ours = [make_badges(HUB, text, "", opens)["launch"] for text, opens in CASES]
    cases = [(made.link.partition("?")[0], opens) for made, (_, opens) in zip(ours, CASES, strict=True)]
    command = ["node", "--input-type=module", "-e", SCRIPT, "--", str(NAMING), HUB, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [(made.link, made.markdown, made.rest, made.html) for made in ours] == [
        (made["link"], made["markdown"], made["rest"], made["html"]) for made in json.loads(done.stdout)
    ]
