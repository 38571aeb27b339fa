"""Rebasing: the same digest as a build on the new base, few requests, and a reason where it can't be done."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.attachments.inspection import DOCUMENTS
from builder.base_change import RebaseRefusedError
from builder.build import build, commit_alias
from builder.facility import BaseChoice, BaseOffer, Bases
from builder.options import DEFAULTS
from builder.package_pattern import PackagePattern
from builder.rebase import rebase
from builder.record import read_records
from builder.repository.spec import RepoSpec
from builder.verify import verify
from registry_sync.errors import CasabinderError
from tests.testbed.git_repository import git
from tests.testbed.packages import built_wheel
from tests.testbed.recorded_store import recorded
from tests.testbed.tiny_base import tiny_base
from tests.unit.builder.conftest import CORE, FONTS, PLOTS, Workbench

if TYPE_CHECKING:
    from tests.testbed.packages import BuiltWheel

NEW = "fac/bases/patched"
FONTS_PATCHED = built_wheel("fonts", "1.1")
PROJECT = '[project]\nname = "a"\nversion = "1"\ndependencies = ["extra==1.0"]\n'
PROJECT += '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


def patched(workbench: Workbench, *wheels: BuiltWheel) -> BaseChoice:
    workbench.index.wheels += [wheel for wheel in wheels if wheel not in workbench.index.wheels]
    tiny_base(
        workbench.store,
        wheels,
        workbench.directory / "patched",
        requirements=("core", "plots"),
        repository=NEW,
        index_url=workbench.index.url,
    )
    return BaseChoice("registry.test", NEW, "current")


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": ""},
        {"requirements.txt": "extra==1.0\n"},
        {"requirements.txt": "extra==1.0\ncore<2\n"},
        {"requirements.txt": "plots<3\n"},
        {"pyproject.toml": PROJECT, "src/a/__init__.py": "X = 1\n"},
    ],
)
def test_the_result_is_what_a_build_on_the_new_base_gives(workbench: Workbench, files: dict[str, str]) -> None:
    record = workbench.run(files)
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    moved = rebase(record.image, choice, workbench.facility, clock=lambda: 1e9)
    assert moved.digest != record.digest
    built = build(
        RepoSpec(str(workbench.repository)), Bases.only(choice), workbench.facility, rebuild=True, clock=lambda: 1e9
    )
    assert (moved.digest, moved.env_id, moved.image_id) == (built.digest, built.env_id, built.image_id)
    assert moved.packages == built.packages
    found = verify(moved.image, workbench.facility, workbench.directory / "scratch")
    assert found.passed
    assert found.reproduced


def test_a_click_finds_the_new_image_and_no_layer_is_read(workbench: Workbench) -> None:
    record = workbench.run({"requirements.txt": "extra==1.0\ncore<2\n"})
    git(workbench.repository, "commit", "--quiet", "--amend", "-m", "other words")
    other = workbench.run()
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    offers = Bases((BaseOffer("patched", "3.13", choice), *Bases.only(workbench.choice).offers))
    store, calls = recorded(workbench.store)
    workbench.index.asked.clear()
    facility = replace(workbench.facility, store=store)
    moved = rebase(record.image, choice, facility, bases=offers, clock=lambda: 1e9)
    read = {call.arguments[1] for call in calls if call.method == "read_blob"}
    assert not read & {layer.digest for layer in record.layers}
    assert "open_blob" not in {call.method for call in calls}
    assert workbench.index.asked == []
    assert {call.arguments[2] for call in calls if call.method == "mount_blob"} == {NEW}
    made = [call.arguments[1].size for call in calls if call.method == "put_blob"]
    assert len(calls) < 80
    assert sum(made) < 50_000
    for bases in (Bases.only(choice), offers):
        found = build(RepoSpec(str(workbench.repository)), bases, workbench.facility)
        assert found.cached
        assert (found.digest, found.commit) == (moved.digest, other.commit)
    repository = moved.image.partition("/")[2].rpartition(":")[0]
    commits = {one.commit for one in read_records(workbench.store, repository, moved.digest)}
    assert commits == {record.commit, other.commit}
    types = {one.artifact_type for one in workbench.store.referrers(repository, moved.digest)}
    assert {DOCUMENTS[name] for name in ("lock", "sbom", "provenance", "log")} <= types


@pytest.mark.parametrize(("pattern", "leads"), [("extra<2", True), ("extra>=2", False)])
@pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml"])
def test_a_click_finds_the_new_image_if_packages_lead_to_the_new_base(
    workbench: Workbench, name: str, pattern: str, leads: bool
) -> None:
    extra = built_wheel("extra", "1.0", requires=["core"])
    address = f"{str(workbench.index.url).removesuffix('/simple')}/files/{extra.filename}"
    lines = {
        "requirements.txt": "extra==1.0\n",
        "pylock.toml": 'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "extra"\nversion = "1.0"\n'
        f'wheels = [{{ url = "{address}", hashes = {{ sha256 = "{extra.sha256}" }} }}]\n',
    }
    record = workbench.run({name: lines[name]})
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    patterns = (PackagePattern.parse(pattern),)
    bases = Bases((BaseOffer("tiny", "3.13", workbench.choice), BaseOffer("patched", "3.13", choice, patterns)))
    moved = rebase(record.image, choice, workbench.facility, bases=bases, clock=lambda: 1e9)
    repository = moved.image.partition("/")[2].rpartition(":")[0]
    there = workbench.store.head_manifest(repository, commit_alias(record.commit, "", bases, DEFAULTS))
    assert (there.digest if there else "") == (moved.digest if leads else "")
    built = build(RepoSpec(str(workbench.repository)), bases, workbench.facility, clock=lambda: 1e9)
    assert built.digest == (moved if leads else record).digest


@pytest.mark.parametrize(
    ("files", "wheels", "reason"),
    [
        ({"requirements.txt": "extra==1.0\n"}, (PLOTS, FONTS), "has no core, which the image took"),
        (
            {"requirements.txt": "extra==1.0\n"},
            (CORE, PLOTS, FONTS, built_wheel("extra", "1.0")),
            "has extra 1.0 itself",
        ),
        (
            {"requirements.txt": "extra==1.0\n"},
            (CORE, PLOTS, FONTS, built_wheel("extra", "3.0")),
            "has extra 3.0, and the image adds 1.0",
        ),
        (
            {"requirements.txt": "core==2.0\nextra==1.0\n"},
            (built_wheel("core", "2.1"), PLOTS, FONTS),
            "asks for core==2",
        ),
        (
            {"requirements.txt": "fonts<1.1\n"},
            (CORE, PLOTS, FONTS_PATCHED),
            "requirements.txt, line 1 asks for fonts<1.1",
        ),
        (
            {"requirements.txt": "core<2\n"},
            (CORE, built_wheel("plots", "3.1", requires=["core>=2"]), FONTS),
            "plots 3.1 requires core>=2",
        ),
        (
            {"requirements.txt": "bound==1.0\n"},
            (built_wheel("core", "3.0"), PLOTS, FONTS),
            "bound 1.0 requires core<3",
        ),
    ],
)
def test_what_is_not_satisfied_any_more(
    workbench: Workbench, files: dict[str, str], wheels: tuple[BuiltWheel, ...], reason: str
) -> None:
    workbench.index.wheels.append(built_wheel("bound", "1.0", requires=["core<3"]))
    record = workbench.run(files)
    choice = patched(workbench, *wheels)
    before = sorted(workbench.store.root.rglob("*"))
    with pytest.raises(RebaseRefusedError, match=reason):
        rebase(record.image, choice, workbench.facility)
    assert sorted(workbench.store.root.rglob("*")) == before


def test_the_same_base_and_no_base(workbench: Workbench) -> None:
    record = workbench.run({"a.py": ""})
    with pytest.raises(RebaseRefusedError, match=r"is on the base .* already"):
        rebase(record.image, workbench.choice, workbench.facility)
    with pytest.raises(RebaseRefusedError, match=r"the base image .* is not in the registry"):
        rebase(record.image, BaseChoice("registry.test", "fac/bases/none", "current"), workbench.facility)
    with pytest.raises(CasabinderError, match="there is no image"):
        rebase("registry.test/fac/none:tag", workbench.choice, workbench.facility)


@pytest.mark.parametrize("rootfs", [{}, {"diff_ids": []}, {"diff_ids": None}, None])
def test_an_image_whose_configuration_has_no_layers(workbench: Workbench, rootfs: object) -> None:
    record = workbench.run({"a.py": ""})
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    repository = record.image.partition("/")[2].rpartition(":")[0]
    configuration = workbench.store.get_manifest(repository, record.digest).config.digest

    class Odd:
        def __getattr__(self, name: str) -> object:
            return getattr(workbench.store, name)

        def read_blob(self, repository: str, digest: str, limit: int = 2**26) -> bytes:
            found = workbench.store.read_blob(repository, digest, limit)
            return json.dumps({**json.loads(found), "rootfs": rootfs}).encode() if digest == configuration else found

    with pytest.raises(RebaseRefusedError, match="can't be read; build it again"):
        rebase(record.image, choice, replace(workbench.facility, store=Odd()))  # type: ignore[arg-type]
