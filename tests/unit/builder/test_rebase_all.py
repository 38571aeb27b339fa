"""Moving all images in use: which are, what becomes of each, and that a click finds the new one with one request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builder.build import build
from builder.facility import BaseChoice, BaseOffer, Bases
from builder.rebase import NewBase
from builder.rebase_all import Outcome, Wishes, below_prefix, rebase_all
from builder.record import ImageRecord
from builder.repository.spec import RepoSpec
from registry_sync.errors import RegistryError
from tests.testbed.git_repository import commit_files
from tests.testbed.packages import built_wheel
from tests.testbed.recorded_store import recorded
from tests.testbed.tiny_base import tiny_base
from tests.unit.builder.conftest import CORE, PLOTS, Workbench

if TYPE_CHECKING:
    from tests.testbed.packages import BuiltWheel

NEW = "fac/bases/patched"
FONTS_PATCHED = built_wheel("fonts", "1.1")
ALL = Wishes()


def patched(workbench: Workbench, *wheels: BuiltWheel) -> BaseChoice:
    workbench.index.wheels += [wheel for wheel in wheels if wheel not in workbench.index.wheels]
    scratch = workbench.directory / "patched"
    named = ("core", "plots")
    tiny_base(workbench.store, wheels, scratch, requirements=named, repository=NEW, index_url=workbench.index.url)
    return BaseChoice("registry.test", NEW, "current")


def built(workbench: Workbench, name: str, files: dict[str, str]) -> ImageRecord:
    directory = workbench.directory / name
    commit_files(directory, files)
    return build(RepoSpec(str(directory)), Bases.only(workbench.choice), workbench.facility)


def states(outcomes: list[Outcome]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.repository.removeprefix("fac/")[:-7], []).append(outcome.state)
    return found


def test_what_is_in_use_moves_and_what_can_not_is_listed(workbench: Workbench) -> None:
    one = built(workbench, "one", {"requirements.txt": "extra==1.0\n"})
    built(workbench, "two", {"a.py": ""})
    built(workbench, "pinned", {"requirements.txt": "fonts<1.1\n"})
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    offers = Bases((BaseOffer("patched", "3.13", choice), BaseOffer("tiny", "3.13", workbench.choice)))
    told: list[tuple[str, int, int]] = []

    def run(wishes: Wishes = ALL) -> list[Outcome]:
        store, calls = recorded(workbench.store)
        facility = replace(workbench.facility, store=store)
        told.clear()
        found = rebase_all(
            [NewBase(choice, facility, offers)],
            facility,
            wishes,
            say=lambda outcome, number, total: told.append((outcome.state, number, total)),
        )
        if wishes.dry_run:
            assert not {call.method for call in calls} & {"put_manifest", "put_blob", "mount_blob", "put_referrers"}
        return found

    before = sorted(workbench.store.root.rglob("*"))
    dry = run(Wishes(dry_run=True))
    assert sorted(workbench.store.root.rglob("*")) == before
    done = run()
    assert states(done) == states(dry) == {"one": ["moved"], "two": ["moved"], "pinned": ["rebuild"]}
    assert [outcome.digest for outcome in done] == [outcome.digest for outcome in dry]
    assert sorted(number for _, number, _ in told) == [1, 2, 3]
    assert {total for *_, total in told} == {3}
    (reason,) = (outcome.reason for outcome in done if outcome.state == "rebuild")
    assert "requirements.txt, line 1 asks for fonts<1.1, and the new base has fonts 1.1" in reason
    moved = next(outcome for outcome in done if outcome.before == one.digest)
    assert (moved.repo, moved.commit) == (one.repo, one.commit)

    for bases in (offers, Bases.only(choice)):
        store, calls = recorded(workbench.store)
        click = build(RepoSpec(one.repo), bases, replace(workbench.facility, store=store))
        assert click.cached
        assert click.digest == moved.digest
        assert [call.method for call in calls] == ["head_manifest"]

    again = states(run())
    assert {name: sorted(found) for name, found in again.items()} == {
        "one": ["already", "superseded"],
        "two": ["already", "superseded"],
        "pinned": ["rebuild"],
    }


def test_a_commit_that_was_built_again_on_the_new_base_is_left_as_it_is(workbench: Workbench) -> None:
    old = built(workbench, "one", {"requirements.txt": "fonts<1.1\n"})
    other = built(workbench, "two", {"requirements.txt": "extra\n"})
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    workbench.index.wheels.append(built_wheel("extra", "3.0"))
    bases = Bases.only(choice)
    newer = [build(RepoSpec(one.repo), bases, workbench.facility) for one in (old, other)]
    outcomes = rebase_all([NewBase(choice, workbench.facility)], workbench.facility, ALL)
    assert sorted(outcome.state for outcome in outcomes) == ["already", "already", "superseded", "superseded"]
    assert [build(RepoSpec(one.repo), bases, workbench.facility).digest for one in newer] == [
        one.digest for one in newer
    ]


def test_which_images_are_asked_for(workbench: Workbench) -> None:
    one, two = (built(workbench, name, {"a.py": f"{name}\n"}) for name in ("one", "two"))
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    target = NewBase(choice, workbench.facility)
    late = Wishes(since="9999", dry_run=True)
    assert states(rebase_all([target], workbench.facility, late)) == {"one": ["older"], "two": ["older"]}
    some = Wishes(pattern="tw*", dry_run=True)
    assert states(rebase_all([target], workbench.facility, some)) == {"two": ["moved"]}
    repository = one.image.partition("/")[2].rpartition(":")[0]
    named = Wishes(repositories=(repository,), dry_run=True)
    assert states(rebase_all([target], workbench.facility, named)) == {"one": ["moved"]}
    assert two.digest not in {outcome.before for outcome in rebase_all([target], workbench.facility, named)}


def test_an_image_of_another_base_is_left(workbench: Workbench) -> None:
    built(workbench, "one", {"a.py": ""})
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    target = NewBase(choice, workbench.facility)
    target.base = replace(target.base, inventory=replace(target.base.inventory, name="other"))
    (outcome,) = rebase_all([target], workbench.facility, ALL)
    assert (outcome.state, outcome.reason) == ("left", "it is on the base tiny")


def test_a_fault_of_one_image_does_not_stop_the_others(workbench: Workbench) -> None:
    broken, whole = (built(workbench, name, {"a.py": f"{name}\n"}) for name in ("one", "two"))
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)

    class Faulty:
        def __getattr__(self, name: str) -> object:
            return getattr(workbench.store, name)

        def put_referrers(self, repository: str, manifests: object) -> None:
            if repository in broken.image:
                raise RegistryError("the registry answered 507")
            workbench.store.put_referrers(repository, manifests)  # type: ignore[arg-type]

    faulty = replace(workbench.facility, store=Faulty())  # type: ignore[arg-type]
    outcomes = {one.before: one for one in rebase_all([NewBase(choice, faulty)], faulty, ALL)}
    assert outcomes[broken.digest].state == "failed"
    assert outcomes[broken.digest].reason == "the registry answered 507"
    assert outcomes[whole.digest].state == "moved"
    # no click finds what is half done, and the next run does it
    repository = broken.image.partition("/")[2].rpartition(":")[0]
    assert len([tag for tag in workbench.store.tags(repository) if tag.startswith("git-")]) == 1
    again = {one.before: one for one in rebase_all([NewBase(choice, workbench.facility)], workbench.facility, ALL)}
    assert again[broken.digest].state == "moved"
    assert again[whole.digest].state == "superseded"


def test_an_alias_that_can_not_be_read_does_not_hide_the_others(workbench: Workbench) -> None:
    image = built(workbench, "one", {"a.py": ""})
    repository = image.image.partition("/")[2].rpartition(":")[0]
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    unreadable, gone = f"git-{'0' * 12}-{'0' * 8}", f"git-{'1' * 12}-{'1' * 8}"

    class Faulty:
        def __getattr__(self, name: str) -> object:
            return getattr(workbench.store, name)

        def tags(self, repository: str) -> list[str]:
            return sorted([unreadable, gone, *workbench.store.tags(repository)])

        def get_manifest(self, repository: str, reference: str) -> object:
            if reference == unreadable:
                raise RegistryError("the registry answered 502")
            return workbench.store.get_manifest(repository, reference)

    faulty = replace(workbench.facility, store=Faulty())  # type: ignore[arg-type]
    wishes = Wishes(repositories=(repository,))
    fault, moved = rebase_all([NewBase(choice, faulty)], faulty, wishes)
    assert (fault.state, fault.reason) == ("failed", "the registry answered 502")
    assert (moved.state, moved.before) == ("moved", image.digest)


def test_the_old_base_is_gone(workbench: Workbench) -> None:
    built(workbench, "one", {"a.py": ""})
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    workbench.store.delete_manifest(workbench.base.repository, workbench.base.digest)
    (outcome,) = rebase_all([NewBase(choice, workbench.facility)], workbench.facility, ALL)
    assert outcome.state == "rebuild"
    assert "is not there any more" in outcome.reason


def test_bases_and_shared_parts_are_no_images() -> None:
    names = ["fac/a-1", "fac/team/b-2", "fac/layers", "fac/wheels", "fac/bases/x", "other/c", "layers"]
    assert below_prefix(names, "fac") == ["fac/a-1", "fac/team/b-2"]
    assert below_prefix(["a-1", "layers", "bases/x"], "") == ["a-1"]


def test_the_newest_image_of_a_commit_counts(workbench: Workbench) -> None:
    """Two images of one commit on two older bases: the newer has the aliases, whatever becomes of it."""
    spec = RepoSpec(str(workbench.directory / "one"))
    older = built(workbench, "one", {"requirements.txt": "extra\n"})
    middle = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    workbench.index.wheels.append(built_wheel("extra", "3.0"))
    newer = build(spec, Bases.only(middle), workbench.facility, rebuild=True, clock=lambda: 4e9)
    scratch, wheels = workbench.directory / "third", [CORE, PLOTS, built_wheel("fonts", "1.2")]
    repository = "fac/bases/third"
    tiny_base(workbench.store, wheels, scratch, requirements=("core",), repository=repository)
    target = NewBase(BaseChoice("registry.test", repository, "current"), workbench.facility)
    outcomes = {one.before: one for one in rebase_all([target], workbench.facility, ALL)}
    assert outcomes[newer.digest].state == "moved"
    assert outcomes[older.digest].state == "superseded"
    found = build(spec, Bases.only(target.choice), workbench.facility)
    assert (found.cached, found.digest) == (True, outcomes[newer.digest].digest)


def test_what_is_built_while_the_run_goes_on_is_kept(workbench: Workbench) -> None:
    old = built(workbench, "one", {"requirements.txt": "extra\n"})
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)
    workbench.index.wheels.append(built_wheel("extra", "3.0"))
    spec, clicked = RepoSpec(old.repo), list[ImageRecord]()

    class Busy:
        """Somebody builds the commit after the images were listed."""

        def __getattr__(self, name: str) -> object:
            return getattr(workbench.store, name)

        def read_blob(self, repository: str, digest: str, limit: int = 2**26) -> bytes:
            if not clicked:
                clicked.append(old)
                clicked[:] = [build(spec, Bases.only(choice), workbench.facility)]
            return workbench.store.read_blob(repository, digest, limit)

    target = NewBase(choice, workbench.facility)
    busy = replace(workbench.facility, store=Busy())  # type: ignore[arg-type]
    rebase_all([target], busy, ALL)
    found = build(spec, Bases.only(choice), workbench.facility)
    assert (found.cached, found.digest) == (True, clicked[0].digest)


def test_a_repository_that_can_not_be_listed_does_not_stop_the_others(workbench: Workbench) -> None:
    closed, whole = (built(workbench, name, {"a.py": f"{name}\n"}) for name in ("one", "two"))
    choice = patched(workbench, CORE, PLOTS, FONTS_PATCHED)

    class Closed:
        def __getattr__(self, name: str) -> object:
            return getattr(workbench.store, name)

        def tags(self, repository: str) -> list[str]:
            if repository in closed.image:
                raise RegistryError("the registry did not let us in")
            return workbench.store.tags(repository)

    facility = replace(workbench.facility, store=Closed())  # type: ignore[arg-type]
    outcomes = rebase_all([NewBase(choice, facility)], facility, ALL)
    assert [(one.before, one.state) for one in outcomes] == [("", "failed"), (whole.digest, "moved")]
