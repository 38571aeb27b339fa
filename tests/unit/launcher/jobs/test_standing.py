"""One word for how it stands with an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.record import BaseFacts
from launcher.jobs.standing import standing

if TYPE_CHECKING:
    from launcher.jobs.model import State

BASE = BaseFacts("b", "host/bases/b:1", "sha256:1", "3.13")
OLD = BaseFacts("b", "host/bases/b:0", "sha256:0", "3.13")
NOW = {BASE.reference: BASE.digest}
ANEW = {BASE.reference: "sha256:2"}
UNKNOWN = {BASE.reference: ""}


@pytest.mark.parametrize(
    ("latest", "base", "earlier", "present", "word"),
    [
        ("queued", None, None, NOW, "building"),
        ("running", BASE, None, NOW, "building"),
        ("built", BASE, None, NOW, "built"),
        (None, BASE, None, NOW, "built"),
        ("failed", BASE, None, NOW, "built"),
        (None, BASE, None, ANEW, "stale base"),
        (None, BASE, None, UNKNOWN, "built"),
        ("failed", None, None, NOW, "failed"),
        ("failed", None, OLD, NOW, "failed"),
        (None, None, OLD, NOW, "stale base"),
        (None, None, OLD, UNKNOWN, "stale base"),
        ("built", None, BASE, NOW, "not built"),
        ("built", None, BASE, UNKNOWN, "not built"),
        ("cancelled", None, None, NOW, "not built"),
        (None, None, None, NOW, "not built"),
    ],
)
def test_the_word(
    latest: State | None, base: BaseFacts | None, earlier: BaseFacts | None, present: dict[str, str], word: str
) -> None:
    assert standing(latest, base, earlier, present) == word
