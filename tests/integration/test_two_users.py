"""Two users, the same wheels, other repositories and machines: the second build sends its own files and no wheel."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.build import build
from builder.facility import Bases
from builder.repository.spec import RepoSpec
from registry_sync.client import RegistryClient
from tests.integration.conftest import cache_with_the_sites
from tests.testbed.counted_requests import CountingTransport
from tests.testbed.git_repository import commit_files
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.facility import BaseChoice, Facility

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]

WHEELS = "particle==1.1.0\npylhe==2.1.0\n"


def test_the_second_user_sends_own_files_only(
    facility: Facility, real_base: BaseChoice, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    commit_files(one, {"requirements.txt": WHEELS, "one.py": "X = 1\n"})
    commit_files(other, {"binder/requirements.txt": WHEELS, "other.py": "Y = 2\n", "data.txt": "3\n" * 1000})
    here = replace(facility, prefix="users", cache=cache_with_the_sites(tmp_path / "here", ("wheels",)))
    first = build(RepoSpec(str(one)), Bases.only(real_base), here)
    counted = CountingTransport()
    with RegistryClient(facility.registry, credentials=None, transport=counted) as store:
        there = replace(here, store=store, cache=tmp_path / "there")
        second = build(RepoSpec(str(other)), Bases.only(real_base), there)
    sources = {layer.what: layer.source for layer in second.layers if layer.source != "base"}
    report = {"requests": dict(counted.methods), "sent": counted.sent, "layers": second.bytes["uploaded"]}
    record_property("second user", report)
    print(report)  # noqa: T201 - the numbers that are promised
    assert second.env_id == first.env_id
    assert second.digest != first.digest
    assert {what for what, source in sources.items() if source == "uploaded"} == {"repository", "env.json"}
    assert {source for what, source in sources.items() if what not in ("repository", "env.json")} == {"mounted"}
    assert list((tmp_path / "there").rglob("*.whl")) == []
    assert second.bytes["uploaded"] < 5_000 < 5_000_000 < second.bytes["new"]
    # The rest is what goes with the image: configuration, manifest, record, lock, bill of materials, provenance.
    assert counted.sent < 600_000
    assert counted.requests < 3 * len(second.layers)
