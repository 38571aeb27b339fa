"""Releases of a real base: tried in a container, tagged, followed by builds, rolled back; and one that fails."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from base_images.definition import load_definition, write_lock
from base_images.identity import base_repository
from builder.base import load_base
from builder.build import build
from builder.locking.closure import closure_of
from builder.rebase import rebase
from builder.repository.spec import RepoSpec
from launcher.bases.ledger import Ledger
from launcher.bases.release import Releases
from launcher.bases.release_commands import release_bases
from launcher.cli import _parser
from launcher.container import HOST
from launcher.context import Context
from launcher.site_config import Site
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError
from tests.integration.conftest import PREFIX
from tests.testbed.counted_requests import CountingTransport
from tests.testbed.git_repository import commit_files
from tests.testbed.launching import engine_answers
from tests.testbed.registry import registry_is_installed
from tests.testbed.xrootd import running_xrootd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from base_images.assemble import BaseRecord
    from base_images.identity import Workshop
    from builder.base import Inventory
    from builder.facility import Facility
    from builder.record import ImageRecord

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(not engine_answers(), reason="needs a Docker Engine"),
]

NAME = "released-py313"
REPOSITORY = base_repository(PREFIX, NAME)
ROOTS = {
    "server": ("jupyterlab", "jupyter-server-proxy"),
    "analysis": ("cryptography", "dask-jobqueue", "distributed", "htcondor", "ipykernel", "pip", "xrootd"),
}


class Catalogue:
    """A site's catalogue of one base: the default one with a few packages of each environment, on the same Debian."""

    def __init__(self, directory: Path, inventory: Inventory) -> None:
        self.directory = directory
        self._inventory = inventory

    def write(self, *more: str) -> None:
        """Write the definition, with ``more`` packages for the analysis, which may lack what they require."""
        known = load_definition("coffea-py313")
        place = self.directory / NAME
        place.mkdir(parents=True, exist_ok=True)
        document = known.document.model_dump(mode="json", exclude_none=True, exclude={"protected"})
        (place / "base.yaml").write_text(json.dumps({**document, "name": NAME}), encoding="utf-8")
        # There is no matplotlib in it.
        (place / "smoke-test.yaml").write_text("not_imported: {analysis: {matplotlib_inline: no matplotlib}}\n")
        for name, roots in ROOTS.items():
            there = getattr(self._inventory, name).by_name
            wanted = {*closure_of(roots, there, self._inventory.target), *(more if name == "analysis" else ())}
            (place / f"{name}.in").write_text("".join(f"{root}\n" for root in roots), encoding="utf-8")
            write_lock(place, name, [pin for pin in known.locks[name] if pin.name in wanted])


@pytest.fixture
def catalogue(base_record: BaseRecord, facility: Facility, tmp_path: Path) -> Catalogue:
    base = load_base(
        facility.store, facility.registry, base_repository(PREFIX, base_record.name), "current", facility.cache
    )
    return Catalogue(tmp_path / "catalogue", base.inventory)


@pytest.fixture
def context(catalogue: Catalogue, facility: Facility, workshop: Workshop) -> Context:
    """A site that follows the channel stable."""
    return Context(Site(base=NAME, channel="stable", catalogues=(catalogue.directory,)), facility, workshop)


@pytest.fixture
def file_address() -> Iterator[str]:
    """A file of a real XRootD server, as containers reach it."""
    if shutil.which("xrootd") is None:
        pytest.skip("needs xrootd")
    with tempfile.TemporaryDirectory(prefix="smoke-data-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "events.txt").write_text("events")
        with running_xrootd(directory) as url:
            yield f"{url.replace('127.0.0.1', HOST)}events.txt"


def built(context: Context, directory: Path) -> ImageRecord:
    """Build a repository as a click or a command does."""
    return build(RepoSpec(str(directory)), context.bases(), context.facility)


def named(context: Context, tag: str) -> str | None:
    there = context.facility.store.head_manifest(REPOSITORY, tag)
    return there.digest if there else None


def test_releases_are_followed_and_rolled_back_and_what_fails_is_none(
    context: Context,
    catalogue: Catalogue,
    file_address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commit_files(tmp_path / "repo", {"analysis.py": "print('hello')\n"})
    catalogue.write()
    releases = Releases(context, NAME, lambda _: None)
    with pytest.raises(CasabinderError, match=f"base release {NAME} --channel stable"):
        built(context, tmp_path / "repo")

    # Released to edge, where a site on stable does not see it; then promoted as it is.
    first = releases.release("edge", address=file_address)
    assert first.faults == ()
    assert (first.new, first.changes, named(context, first.tag)) == (True, "the first release", first.digest)
    assert (named(context, "edge"), named(context, "stable")) == (first.digest, None)
    ledger = Ledger(context.facility.store, REPOSITORY)
    notes = json.loads(ledger.notes(first.digest) or b"")
    checks = {check["name"] for check in notes["smoke_test"]["checks"]}
    assert checks >= {"server", "kernel", "dask", "xrootd", "analysis: import dask", "server: import jupyterlab"}
    assert checks >= {"analysis: pip check", "server: pip check"}
    assert notes["smoke_test"]["xrootd"] == "read"
    assert releases.promote("edge", "stable").before == ""
    record = built(context, tmp_path / "repo")
    assert record.base.digest == first.digest

    # Whoever asks again within a minute sends one request.
    requests = CountingTransport()
    with RegistryClient(context.facility.registry, insecure=True, credentials=None, transport=requests) as store:
        again = replace(context, facility=replace(context.facility, store=store))
        assert built(again, tmp_path / "repo").digest == record.digest
    assert dict(requests.methods) == {"HEAD": 1}

    # A base of which one package can't be imported is not released, and nobody builds on it.
    tags = context.facility.store.tags(REPOSITORY)
    catalogue.write("vector")  # without numpy
    assert release_bases(context, _parser().parse_args(["base", "release", "--json"])) == 1
    said = capsys.readouterr()
    [answer] = json.loads(said.out)
    assert (answer["tag"], answer["smoke_test"].partition(" ")[0]) == ("", "2")
    assert "analysis: import vector failed: ModuleNotFoundError: No module named 'numpy'" in said.err
    assert "analysis: pip check failed: vector " in said.err
    left = set(context.facility.store.tags(REPOSITORY)) - set(tags)
    digests = {tag.partition("-")[2][:8] for tag in left}  # of its own tag, and of the one that lists its inventory
    assert len(digests) == 1, "the image has the tag of its own bytes alone"
    assert (named(context, "edge"), named(context, "current")) == (first.digest, first.digest)

    # Mended, it is the second release; sites on stable build on it, and go back with the channel.
    catalogue.write("tqdm")
    second = Releases(context, NAME, lambda _: None).release("stable")
    assert (second.tag, second.before, second.changes) == (
        f"{first.tag}-2",
        first.tag,
        "packages changed: 1 analysis",
    )
    newer = built(context, tmp_path / "repo")
    assert (newer.base.digest, newer.cached) == (second.digest, False)
    assert not Releases(context, NAME, lambda _: None).release("stable").new, "the same definition is the same release"

    releases.back("stable")
    assert (built(context, tmp_path / "repo").digest, named(context, "stable")) == (record.digest, first.digest)
    rows = {row["tag"]: (row["channels"], row["rolled_back"]) for row in releases.rows()}
    assert rows == {first.tag: (["edge", "stable"], []), second.tag: ([], ["stable"])}
    with pytest.raises(CasabinderError, match=f"stable was rolled back from {second.tag}"):
        Releases(context, NAME, lambda _: None).release("stable")

    # Images are put onto a release by its name.
    chosen = context.bases(f"{NAME}:{second.tag}").offers[0].choice
    assert rebase(record.image, chosen, context.facility, bases=context.bases()).digest == newer.digest
