"""All images in use of a real registry onto a patched base: two move, one has lost its old base."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.build import build
from builder.facility import Bases
from builder.rebase import NewBase
from builder.rebase_all import Wishes, rebase_all
from builder.repository.spec import RepoSpec
from registry_sync.client import RegistryClient
from tests.integration.test_attachments import Counting, patched
from tests.testbed.git_repository import commit_files
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from pathlib import Path

    from builder.facility import BaseChoice, Facility

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]
NAME = "coffea-py313"


def test_what_is_in_use_moves_and_a_click_finds_it(facility: Facility, real_base: BaseChoice, tmp_path: Path) -> None:
    gone = patched(facility, real_base, tmp_path / "gone", NAME)
    specs = []
    for name, base in (("moved-one", real_base), ("moved-two", real_base), ("moved-not", gone)):
        commit_files(tmp_path / name, {"requirements.txt": "particle\n", "a.py": f"# {name}\n"})
        specs.append(RepoSpec(str(tmp_path / name)))
        build(specs[-1], Bases.only(base), facility)
    lost = facility.store.head_manifest(gone.repository, gone.reference)
    assert lost is not None
    facility.store.delete_manifest(gone.repository, lost.digest)

    choice = patched(facility, real_base, tmp_path / "fresh", NAME)
    with RegistryClient(facility.registry, credentials=None) as store:
        ours = replace(facility, store=store)
        wishes = Wishes(pattern="moved-*")
        outcomes = {one.repo: one for one in rebase_all([NewBase(choice, ours)], ours, wishes)}
        sys.stdout.write(f"rebase --all: {store.traffic}\n")
    assert [outcomes[spec.url].state for spec in specs] == ["moved", "moved", "rebuild"]
    assert "is not there any more" in outcomes[specs[2].url].reason
    for spec in specs[:2]:
        counting = Counting()
        with RegistryClient(facility.registry, credentials=None, transport=counting) as store:
            found = build(spec, Bases.only(choice), replace(facility, store=store))
        assert found.cached
        assert found.digest == outcomes[spec.url].digest
        assert [request.partition(" ")[0] for request in counting.requests if "/v2/casabinder" in request] == ["HEAD"]
    again = rebase_all([NewBase(choice, facility)], facility, wishes)
    assert sorted(one.state for one in again) == ["already", "already", "rebuild", "superseded", "superseded"]
    made = build(specs[0], Bases.only(choice), facility, rebuild=True)
    assert made.digest == outcomes[specs[0].url].digest
