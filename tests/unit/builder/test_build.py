"""The whole line on a tiny base: what comes out, what is made twice, and that the bytes are always the same.

After a change of what images are made of (and of ``RECIPE``), write the golden digest anew with::

    CASABINDER_UPDATE_GOLDEN=1 python -m pytest tests/unit/builder/test_build.py
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.build import build, dry_run
from builder.cuda import CUDA, CUDA_DRIVER, runtime_labels
from builder.facility import BaseChoice, BaseOffer, Bases
from builder.layers.errors import LayerError
from builder.locking.pylock import LockedPackage, UnfitError
from builder.package_pattern import PackagePattern
from builder.record import read_lock, read_records
from builder.repository.spec import Commit, RepoSpec
from builder.verify import verify
from registry_sync.errors import CasabinderError, NotFoundError
from tests.testbed.git_repository import commit_files, git
from tests.testbed.packages import built_wheel
from tests.testbed.recorded_store import recorded
from tests.testbed.tiny_base import tiny_base
from tests.unit.builder.conftest import IN_BASE, Workbench, make_workbench
from tests.unit.builder.layers.helpers import Found, read_layer

if TYPE_CHECKING:
    from builder.events import Event
    from builder.record import ImageRecord
    from registry_sync.manifest import Manifest

FILES = {"requirements.txt": "extra==1.0\ncore<2\n", "analysis.py": "import core\n"}
GOLDEN = Path(__file__).parent / "golden" / "image_digest.txt"
SITE = "srv/env/lib/python3.13/site-packages"


def repository_of(record: ImageRecord) -> str:
    return record.image.partition("/")[2].rpartition(":")[0]


def manifest_of(workbench: Workbench, record: ImageRecord) -> Manifest:
    repository = repository_of(record)
    return workbench.store.get_manifest(repository, record.digest)


def labelled_base(workbench: Workbench, cuda: str, requirements: tuple[str, ...]) -> BaseChoice:
    """Return a base of the same packages whose label states a version of CUDA, or nothing."""
    repository = "fac/bases/labelled"
    tiny_base(
        workbench.store,
        IN_BASE,
        workbench.directory / "labelled",
        requirements=requirements,
        repository=repository,
        index_url=workbench.index.url,
        labels={CUDA: cuda} if cuda else {},
    )
    return BaseChoice("registry.test", repository, "current")


def layers_of(workbench: Workbench, record: ImageRecord) -> list[dict[str, Found]]:
    repository = repository_of(record)
    return [
        read_layer(workbench.store.read_blob(repository, layer.digest))
        for layer in manifest_of(workbench, record).layers
    ]


def test_a_commit_that_was_resolved_before_is_built_wherever_its_branch_has_gone(workbench: Workbench) -> None:
    first = commit_files(workbench.repository, {"a.py": "1\n"})
    commit_files(workbench.repository, {"a.py": "2\n"})
    spec = RepoSpec(str(workbench.repository), "main")
    record = build(spec, Bases.only(workbench.choice), workbench.facility, commit=Commit(spec, first, "main"))
    assert (record.commit, record.ref) == (first, "main")


def test_the_image_of_a_tiny_base_has_always_the_same_digest(workbench: Workbench) -> None:
    digest = workbench.run(FILES).digest
    if os.environ.get("CASABINDER_UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(digest + "\n")
    assert digest == GOLDEN.read_text().strip()


def test_what_is_in_the_image(workbench: Workbench) -> None:
    record = workbench.run(FILES)
    layers = layers_of(workbench, record)
    whiteouts, core, extra, content, identity = layers[-5:]
    wheels = {**core, **extra}
    assert sorted(path for path in whiteouts if "/.wh." in path) == [
        f"{SITE}/.wh.core",
        f"{SITE}/.wh.core-2.0.dist-info",
    ]
    assert wheels[f"{SITE}/core/data/new.txt"].data == b"new"
    assert f"{SITE}/extra/__init__.py" in wheels
    assert content["srv/repo/analysis.py"].data == b"import core\n"
    assert content["srv/repo/analysis.py"].owner == (1000, 1000)
    document = json.loads(identity["etc/casabinder/env.json"].data)
    assert document == {
        "env_id": record.env_id,
        "image_id": record.image_id,
        "tree": git(workbench.repository, "rev-parse", "HEAD^{tree}"),
        "base": {"name": "tiny", "digest": workbench.base.digest},
        "python": "3.13.5",
        "lock_sha256": record.lock_sha256,
        "platform": "linux/amd64",
        "recipe": 1,
    }
    manifest = manifest_of(workbench, record)
    config = json.loads(workbench.store.read_blob(repository_of(record), manifest.config.digest))
    stated = [entry for entry in config["config"]["Env"] if entry.startswith("CASABINDER_")]
    assert not stated, "what a worker is expected to be is said by who starts it, never by its own image"
    assert "PATH=/srv/env/bin:/bin" in config["config"]["Env"]
    assert config["config"]["Cmd"] == ["jupyter-lab"]
    assert len(config["rootfs"]["diff_ids"]) == len(manifest.layers) == len(config["history"])
    everything = manifest.raw + json.dumps(config).encode() + identity["etc/casabinder/env.json"].data
    for secret in (record.commit, str(workbench.directory), "repo-"):
        assert secret.encode() not in everything


def test_what_the_record_says(workbench: Workbench) -> None:
    record = workbench.run(FILES)
    assert record.image == f"registry.test/fac/{RepoSpec(str(workbench.repository)).slug}:{record.image_id}"
    assert (record.repo, record.ref) == (str(workbench.repository), "HEAD")
    assert record.commit == git(workbench.repository, "rev-parse", "HEAD")
    assert (record.base.name, record.base.python) == ("tiny", "3.13")
    assert record.base.reference == "registry.test/fac/bases/tiny:current"
    assert record.packages == {"from_base": 2, "added": 1, "replaced": 1}
    assert record.created == "2001-09-09T01:46:40Z"
    assert [layer.source for layer in record.layers] == ["base", "base", *["uploaded"] * 5]
    assert [layer.what for layer in record.layers][2:] == [
        "removed of the base: core 2.0",
        "core 1.0",
        "extra 1.0",
        "repository",
        "env.json",
    ]
    assert record.bytes["total"] == sum(layer.bytes for layer in record.layers)
    assert record.bytes["uploaded"] == record.bytes["new"] == sum(layer.bytes for layer in record.layers[2:])
    assert not record.cached
    assert {"resolve", "fetch", "lock", "layers", "push", "total"} == set(record.seconds)


def test_the_same_again_costs_nothing(workbench: Workbench) -> None:
    first = workbench.run(FILES)
    workbench.index.asked.clear()
    store, calls = recorded(workbench.store)
    again = replace(workbench, facility=replace(workbench.facility, store=store)).run()
    assert [call.method for call in calls] == ["head_manifest"]
    assert workbench.index.asked == []
    assert again.cached
    assert (again.digest, again.image, again.bytes["uploaded"]) == (first.digest, first.image, 0)
    assert [layer.source for layer in again.layers] == ["base", "base", *["cached"] * 5]


def test_what_was_not_used_for_long_makes_room_and_is_made_again(workbench: Workbench) -> None:
    def bounded(limit: int) -> Workbench:
        return replace(workbench, facility=replace(workbench.facility, layer_cache_bytes=limit))

    def kept() -> set[Path]:
        cache = workbench.facility.cache
        return {path for path in [*cache.glob("layers/blobs/*"), *cache.glob("wheels/*/*/*")] if path.is_file()}

    first = workbench.run(FILES)
    old = kept()
    assert {path.suffix for path in old} == {"", ".whl"}
    bounded(1).run({"notes.txt": "another tree of the same packages"})
    assert old <= kept(), "what was used just now stays"
    (unused := workbench.facility.cache / "wheels" / "00" / "00" / "old.whl").parent.mkdir(parents=True)
    unused.touch()
    for path in [*old, unused]:
        os.utime(path, (0, 0))
    bounded(1).run({"notes.txt": "yet another"})
    assert {*old, unused} <= kept(), "it was looked at within the hour"
    bounded(2).run({"notes.txt": "and one more"})
    assert not unused.exists()
    assert len(old - kept()) == 2, "the first tree and its env.json; packages are in use"
    git(workbench.repository, "rm", "--quiet", "notes.txt")
    git(workbench.repository, "commit", "--quiet", "-m", "as it was")
    assert workbench.run(rebuild=True).digest == first.digest


def test_another_machine_reads_the_record_from_the_registry(workbench: Workbench) -> None:
    first = workbench.run(FILES)
    (workbench.facility.cache / "records").rename(workbench.directory / "away")
    again = workbench.run()
    assert (again.digest, again.cached, again.created) == (first.digest, True, first.created)


def test_a_commit_with_the_same_tree_gets_a_record_and_an_alias(workbench: Workbench) -> None:
    first = workbench.run(FILES)
    git(workbench.repository, "commit", "--quiet", "--amend", "-m", "other words")
    second = workbench.run()
    assert second.cached
    assert second.commit != first.commit
    assert second.digest == first.digest
    repository = repository_of(first)
    assert len(workbench.store.tags(repository)) == 3  # the image and two commits
    assert {record.commit for record in read_records(workbench.store, repository, first.digest)} == {
        first.commit,
        second.commit,
    }
    assert workbench.run().commit == second.commit


def test_a_new_file_means_new_content_and_the_same_environment(workbench: Workbench) -> None:
    first = workbench.run(FILES)
    second = workbench.run({"analysis.py": "import core, extra\n"})
    assert second.env_id == first.env_id
    assert second.image_id != first.image_id
    assert [layer.source for layer in second.layers][2:] == ["cached", "cached", "cached", "uploaded", "uploaded"]


def test_a_repository_without_environment_files_is_the_base_and_its_content(workbench: Workbench) -> None:
    record = workbench.run({"a.py": ""})
    assert record.packages == {"from_base": 3, "added": 0, "replaced": 0}
    assert [layer.what for layer in record.layers][2:] == ["repository", "env.json"]


def test_a_project_is_imported_from_where_it_lies(workbench: Workbench) -> None:
    record = workbench.run(
        {"pyproject.toml": '[project]\nname = "a"\ndependencies = ["core"]\n', "src/a/__init__.py": ""}
    )
    paths = layers_of(workbench, record)[-3]
    assert paths[f"{SITE}/_casabinder_a.pth"].data == b"/srv/repo/src\n"
    assert record.packages == {"from_base": 3, "added": 0, "replaced": 0}


def test_the_digest_depends_on_neither_place_nor_cache_nor_url(
    workbench: Workbench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = workbench.run(FILES)
    other = make_workbench(tmp_path_factory.mktemp("a very different place"), workbench.index)
    commit_files(other.repository, {"unrelated": "x"})
    git(other.repository, "rm", "--quiet", "unrelated")
    second = other.run(FILES)
    assert second.commit != first.commit
    assert (second.digest, second.env_id, second.image_id) == (first.digest, first.env_id, first.image_id)


def test_the_lock_of_the_first_build_stays_until_a_rebuild(workbench: Workbench) -> None:
    first = workbench.run({"requirements.txt": "extra\n"})
    workbench.index.wheels.append(built_wheel("extra", "3.0"))
    assert workbench.run().digest == first.digest
    rebuilt = workbench.run(rebuild=True)
    assert rebuilt.env_id != first.env_id
    assert workbench.run().digest == rebuilt.digest


def test_a_dry_run_changes_nothing(workbench: Workbench) -> None:
    commit_files(workbench.repository, FILES)
    before = sorted(path for path in workbench.store.root.rglob("*"))
    prepared = dry_run(RepoSpec(str(workbench.repository)), Bases.only(workbench.choice), workbench.facility)
    assert prepared.plan.whats[0] == "removed of the base: core 2.0"
    assert sorted(path for path in workbench.store.root.rglob("*")) == before
    assert not (workbench.facility.cache / "layers").exists()


def test_a_base_that_is_not_there(workbench: Workbench) -> None:
    workbench.store.delete_manifest(workbench.base.repository, "current")
    with pytest.raises(CasabinderError, match=r"the base image registry.test/fac/bases/tiny:current is not in the reg"):
        workbench.run(FILES)


def test_a_base_that_is_made_for_a_package_and_not_built_is_passed_over_until_it_is(workbench: Workbench) -> None:
    commit_files(workbench.repository, {"requirements.txt": "extra==1.0\n"})
    spec, notes = RepoSpec(str(workbench.repository)), list[str]()
    plain = BaseOffer("plain", "3.13", workbench.choice)
    special = BaseChoice("registry.test", "fac/bases/special", "current")
    bases = Bases((plain, BaseOffer("special", "3.13", special, (PackagePattern.parse("extra"),))))
    first = build(spec, bases, workbench.facility, lambda event: notes.append(event.message))
    assert first.base.reference == str(workbench.choice)
    sentence = "requirements.txt, line 1 asks for extra==1.0, for which there is the base special, but this"
    assert any(note.startswith(sentence) and "plain is taken" in note for note in notes), notes
    wheels, scratch = [*IN_BASE, built_wheel("glyphs", "1.0")], workbench.directory / "special"
    workbench.index.wheels.append(wheels[-1])
    tiny_base(workbench.store, wheels, scratch, repository=special.repository, index_url=workbench.index.url)
    second = build(spec, bases, workbench.facility)
    assert (second.base.reference, second.cached) == (str(special), False)
    assert build(spec, bases, workbench.facility).cached

    third = BaseChoice("registry.test", "fac/bases/third", "current")
    only = Bases((BaseOffer("old", "3.10", workbench.choice), replace(bases.offers[1], choice=third)))
    commit_files(workbench.repository, {"runtime.txt": "python-3.13\n"})
    with pytest.raises(CasabinderError, match="fac/bases/third:current is not in the registry"):
        build(spec, only, workbench.facility)


def test_a_base_that_does_not_say_where_its_wheels_are(workbench: Workbench) -> None:
    commit_files(workbench.repository, {"requirements.txt": "extra==1.0\n"})
    choice = BaseChoice("registry.test", "fac/bases/elsewhere", "current")
    tiny_base(workbench.store, IN_BASE, workbench.directory / "elsewhere", repository=choice.repository)
    record = build(RepoSpec(str(workbench.repository)), Bases.only(choice), workbench.facility)
    assert record.packages["added"] == 1


def test_what_is_optional_in_a_base_gives_way(workbench: Workbench) -> None:
    old, new = built_wheel("middle", "1.0"), built_wheel("middle", "2.0")
    client = built_wheel("client", "1.0", requires=["middle<2"])
    workbench.index.wheels += [old, new, client]
    commit_files(workbench.repository, {"requirements.txt": "middle>=2\n"})
    spec, refused = (
        RepoSpec(str(workbench.repository)),
        "`middle>=2` can't be had together with client of the base",
    )
    for name, optional in (("strict", ()), ("lenient", ("client",))):
        tiny_base(
            workbench.store,
            [*IN_BASE, old, client],
            workbench.directory / name,
            requirements=("core", "client"),
            optional=optional,
            repository=f"fac/bases/{name}",
            index_url=workbench.index.url,
        )
    strict, lenient = (
        Bases.only(BaseChoice("registry.test", f"fac/bases/{name}", "current")) for name in ("strict", "lenient")
    )
    with pytest.raises(CasabinderError, match=refused):
        build(spec, strict, workbench.facility)
    notes = list[str]()
    record = build(spec, lenient, workbench.facility, lambda event: notes.append(event.message))
    assert record.packages["replaced"] == 1
    assert "client of the base tiny is removed: client 1.0 requires middle<2, and middle 2.0 is there" in notes
    # that there is an old one which goes with anything is no reason to take it
    workbench.index.wheels.append(built_wheel("client", "0.1"))
    commit_files(workbench.repository, {"requirements.txt": "middle>=2\nextra\n"})
    record = build(spec, lenient, workbench.facility)
    assert 'name = "client"' not in read_lock(workbench.store, repository_of(record), record.digest)
    assert verify(record.image, workbench.facility, workbench.directory / "again").passed


def test_a_symlink_out_of_the_repository_ends_before_anything_is_pushed(workbench: Workbench) -> None:
    commit_files(workbench.repository, {"a": ""}, links={"passwd": "/etc/passwd"})
    with pytest.raises(LayerError, match="the symlink 'passwd' points to '/etc/passwd', outside the repository"):
        workbench.run()
    assert workbench.store.tags(f"fac/{RepoSpec(str(workbench.repository)).slug}") == []
    assert list(workbench.facility.cache.rglob("*.part")) == []


class TestVerify:
    def digests(self, workbench: Workbench, record: ImageRecord) -> tuple[str, str]:
        found = verify(record.image, workbench.facility, workbench.directory / "scratch")
        return found.stored, found.made

    @pytest.mark.parametrize(
        "files",
        [
            FILES,
            {"a.py": ""},
            {"requirements.txt": "plots<3\n"},
            {"pyproject.toml": '[project]\nname = "a"\ndependencies = ["extra"]\n'},
        ],
    )
    def test_an_image_is_made_again_from_what_is_stored_with_it(
        self, workbench: Workbench, files: dict[str, str]
    ) -> None:
        record = workbench.run(files)
        workbench.index.wheels.append(built_wheel("extra", "3.0"))
        there, made = self.digests(workbench, record)
        assert there == made == record.digest
        assert len(list((workbench.directory / "scratch" / "blobs").iterdir())) == len(record.layers) - 2

    def test_another_lock_gives_another_image(self, workbench: Workbench) -> None:
        record = workbench.run(FILES)
        repository = repository_of(record)
        text = read_lock(workbench.store, repository, record.digest)
        directory = workbench.store.root / repository / "blobs" / "sha256"
        (stored,) = [path for path in directory.iterdir() if path.read_bytes() == text.encode()]
        extra = next(wheel for wheel in workbench.index.wheels if (wheel.name, wheel.version) == ("extra", "2.0"))
        old = next(wheel for wheel in workbench.index.wheels if (wheel.name, wheel.version) == ("extra", "1.0"))
        forged = (
            text.replace(old.sha256, extra.sha256)
            .replace("extra-1.0", "extra-2.0")
            .replace('name = "extra"\nversion = "1.0"', 'name = "extra"\nversion = "2.0"')
        )
        stored.write_text(forged)
        with pytest.raises(CasabinderError, match="sha256"):  # the registry's own check finds it
            self.digests(workbench, record)

    def test_an_image_of_somebody_else(self, workbench: Workbench) -> None:
        with pytest.raises(CasabinderError, match="carries no record; it was not built by casabinder"):
            verify("registry.test/fac/bases/tiny:current", workbench.facility, workbench.directory)
        with pytest.raises(NotFoundError):
            verify("registry.test/fac/other:tag", workbench.facility, workbench.directory)


def test_a_site_with_zstd_gets_another_image_of_the_same_files(workbench: Workbench) -> None:
    plain = workbench.run(FILES)
    workbench.facility = replace(workbench.facility, compression="zstd")
    record = workbench.run()
    assert not record.cached
    assert record.env_id == plain.env_id
    assert record.image_id != plain.image_id
    manifest, before = manifest_of(workbench, record), manifest_of(workbench, plain)
    types = [layer.media_type.rpartition("+")[2] for layer in manifest.layers]
    assert types == ["gzip"] * (len(types) - 5) + ["zstd"] * 5
    diff_ids = [
        json.loads(workbench.store.read_blob(repository_of(record), one.config.digest))["rootfs"]["diff_ids"]
        for one in (manifest, before)
    ]
    assert diff_ids[0][:-1] == diff_ids[1][:-1]  # env.json names the image
    assert workbench.run().cached
    workbench.facility = replace(workbench.facility, compression="gzip")
    found = verify(record.image, workbench.facility, workbench.directory / "scratch")
    assert (found.made, found.faults) == (record.digest, ())
    assert workbench.run().digest == plain.digest


def test_packages_that_bring_a_cuda_of_their_own_label_their_image(workbench: Workbench) -> None:
    torch = built_wheel("torch", "2.9.0", requires=["nvidia-cuda-runtime"])
    workbench.index.wheels += [torch, built_wheel("nvidia-cuda-runtime", "13.0.96")]
    said = list[str]()
    commit_files(workbench.repository, {"requirements.txt": "torch\n"})
    spec = RepoSpec(str(workbench.repository))
    record = build(spec, Bases.only(workbench.choice), workbench.facility, lambda event: said.append(event.message))
    config = workbench.store.read_blob(repository_of(record), manifest_of(workbench, record).config.digest)
    labels = json.loads(config)["config"]["Labels"]
    assert (labels[CUDA], labels[CUDA_DRIVER]) == ("13.0", "13.0")
    assert not [words for words in said if "no GPU" in words]
    assert verify(record.image, workbench.facility, workbench.directory / "again").passed


@pytest.mark.parametrize(
    ("packages", "labels"),
    [
        ([], {}),
        ([("nvidia-cuda-runtime-cu12", "12.8.90")], {CUDA: "12.8", CUDA_DRIVER: "12.0"}),
        ([("nvidia-cuda-runtime", "13.1")], {CUDA: "13.1", CUDA_DRIVER: "13.0"}),
        ([("nvidia-cuda-runtimes", "13.1"), ("nvidia-cublas", "13.1")], {}),
    ],
)
def test_the_labels_of_a_runtime(packages: list[tuple[str, str]], labels: dict[str, str]) -> None:
    locked = [LockedPackage(name, version, f"{name}.whl", "0" * 64) for name, version in packages]
    assert runtime_labels(locked) == labels


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (
            "",
            "which is for CUDA, and the base tiny has none: notebooks and workers of this image ask for no GPU by "
            "themselves",
        ),
        ("12.9", ""),
        (
            "13.0",
            "and the base tiny has CUDA 13.0: the drivers that notebooks and workers ask for may be too old for it",
        ),
    ],
)
def test_packages_for_another_cuda_than_the_bases_are_spoken_of(
    workbench: Workbench, version: str, sentence: str
) -> None:
    workbench.index.wheels.append(built_wheel("cupy-cuda12x", "13.0"))
    labelled = labelled_base(workbench, version, requirements=("core", "plots"))
    commit_files(workbench.repository, {"requirements.txt": "cupy-cuda12x\n"})
    said: list[str] = []
    bases = Bases.only(labelled)
    build(RepoSpec(str(workbench.repository)), bases, workbench.facility, lambda event: said.append(event.message))
    told = [words for words in said if words.startswith("requirements.txt, line 1 asks for cupy-cuda12x, ")]
    assert told == ([f"requirements.txt, line 1 asks for cupy-cuda12x, {sentence}"] if sentence else [])


@pytest.mark.parametrize(
    ("requires", "taken"), [("core>=2", "fac/bases/labelled"), ("core<2", "fac/bases/tiny"), ("core<0.1", "")]
)
def test_a_base_that_packages_lead_to_and_do_not_go_with(workbench: Workbench, requires: str, taken: str) -> None:
    workbench.index.wheels.append(built_wheel("cupy-cuda12x", "13.0", requires=[requires]))
    labelled = labelled_base(workbench, "12.9", requirements=("core==2.0", "plots"))
    commit_files(workbench.repository, {"requirements.txt": "cupy-cuda12x\n"})
    bases = Bases((BaseOffer("tiny", "3.13", workbench.choice), BaseOffer("labelled", "3.13", labelled, cuda="12.9")))
    said: list[str] = []

    def hear(event: Event) -> None:
        said.append(event.message)

    spec = RepoSpec(str(workbench.repository))
    if not taken:
        with pytest.raises(UnfitError, match="can't be had together with core of the base tiny"):
            build(spec, bases, workbench.facility, hear)
        return
    record = build(spec, bases, workbench.facility, hear)
    assert record.base.reference == f"registry.test/{taken}:current"
    given_up = [
        words for words in said if words.startswith("labelled is not taken after all, but tiny: requirements.txt")
    ]
    assert bool(given_up) is (taken == "fac/bases/tiny")
    assert build(spec, bases, workbench.facility).cached
