"""Real builds: the example analysis on the real base, pushed to a real registry, unpacked and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.attachments.attach import attach
from builder.base import load_base
from builder.build import build
from builder.facility import Bases
from builder.record import LOCK_TYPE, ImageRecord, lock_artifact, read_lock
from builder.repository.spec import RepoSpec
from builder.verify import verify
from registry_sync.client import RegistryClient
from registry_sync.layout import LayoutStore
from tests.testbed.git_repository import commit_files, git
from tests.testbed.registry import registry_is_installed, running_http_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from base_images.assemble import BaseRecord
    from builder.facility import BaseChoice, Facility

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "agc-ttbar"
PACKAGES = "srv/env/lib/python3.13/site-packages"


def example_repository(directory: Path) -> Path:
    """Make the example into a git repository; the same files give the same commit."""
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("__pycache__"))
    commit_files(directory, {})
    return directory


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example_repository(tmp_path_factory.mktemp("example") / "agc")


@pytest.fixture(scope="module")
def record(repository: Path, facility: Facility, real_base: BaseChoice) -> ImageRecord:
    """The example, built."""
    return build(RepoSpec(str(repository)), Bases.only(real_base), facility)


def repository_of(record: ImageRecord) -> str:
    return record.image.partition("/")[2].rpartition(":")[0]


def by_digest(record: ImageRecord) -> str:
    return f"{record.image.rpartition(':')[0]}@{record.digest}"


def test_the_record_of_the_example(
    record: ImageRecord, repository: Path, facility: Facility, base_record: BaseRecord
) -> None:
    assert record.image == f"{facility.registry}/casabinder/{RepoSpec(str(repository)).slug}:{record.image_id}"
    assert record.commit == git(repository, "rev-parse", "HEAD")
    assert (record.base.name, record.base.digest, record.base.python) == ("coffea-py313", base_record.digest, "3.13")
    assert record.packages["replaced"] == 1
    assert record.packages["added"] >= 1
    assert "removed of the base: mplhep " in record.layers[base_record.layers].what
    assert all(layer.source == "base" for layer in record.layers[: base_record.layers])
    assert record.bytes["new"] < 2_000_000 < 100_000_000 < record.bytes["total"]
    assert not record.cached
    there = facility.store.head_manifest(repository_of(record), record.image_id)
    assert there is not None
    assert there.digest == record.digest


@contextmanager
def recording_proxy(address: str) -> Iterator[tuple[str, list[str]]]:
    """Pass reads on to the registry at ``address`` and note every request."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            request = urllib.request.Request(f"http://{address}{self.path}", method=self.command, headers=headers)
            try:
                answer = urllib.request.urlopen(request, timeout=10)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                body = answer.read()
                self.send_response(answer.status or 500)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the base class's way

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

    with running_http_server(Handler) as proxy:
        yield proxy, asked


def test_a_second_run_is_one_request(
    record: ImageRecord, repository: Path, facility: Facility, real_base: BaseChoice
) -> None:
    with (
        recording_proxy(facility.registry) as (address, asked),
        RegistryClient(address, credentials=None, insecure=True) as store,
    ):
        again = build(RepoSpec(str(repository)), Bases.only(real_base), replace(facility, store=store))
    assert [line.split()[0] for line in asked] == ["HEAD"]
    assert again.cached
    assert (again.digest, again.image) == (record.digest, record.image)


def test_verify_makes_it_again(record: ImageRecord, facility: Facility, tmp_path: Path) -> None:
    found = verify(record.image, facility, tmp_path)
    assert (found.stored, found.made, found.faults) == (record.digest, record.digest, ())


def test_verify_notices_an_altered_lock(
    repository: Path, facility: Facility, real_base: BaseChoice, tmp_path: Path
) -> None:
    elsewhere = replace(facility, prefix="tampered")
    record = build(RepoSpec(str(repository)), Bases.only(real_base), elsewhere)
    store, name = elsewhere.store, repository_of(record)
    text = read_lock(store, name, record.digest)
    (stored,) = store.referrers(name, record.digest, LOCK_TYPE)
    store.delete_manifest(name, stored.digest)
    blocks = text.split("\n\n")
    fewer = "\n\n".join(block for block in blocks if 'name = "particle"' not in block)
    assert len(fewer) < len(text)
    image = store.get_manifest(name, record.digest)
    attach(store, name, image.descriptor(), [lock_artifact(fewer)])
    found = verify(record.image, elsewhere, tmp_path)
    there, made = found.stored, found.made
    assert there == record.digest != made


@pytest.mark.skipif(shutil.which("skopeo") is None or shutil.which("umoci") is None, reason="needs skopeo and umoci")
def test_copied_with_skopeo_and_unpacked_with_umoci_there_is_one_mplhep(
    record: ImageRecord, facility: Facility, real_base: BaseChoice, tmp_path: Path
) -> None:
    base = load_base(facility.store, facility.registry, real_base.repository, real_base.reference, facility.cache)
    old_version = base.inventory.analysis.by_name["mplhep"].version
    layout = tmp_path / "layout"
    copy = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{by_digest(record)}", f"oci:{layout}:x"]
    subprocess.run(copy, check=True)
    unpack = ["umoci", "raw", "unpack", "--rootless", "--image", f"{layout}:x", str(tmp_path / "root")]
    subprocess.run(unpack, check=True, capture_output=True)
    root = tmp_path / "root"
    packages = root / PACKAGES
    assert [path.name for path in packages.glob("mplhep-*")] == ["mplhep-0.4.1.dist-info"]
    rows = (packages / "mplhep-0.4.1.dist-info" / "RECORD").read_text().splitlines()
    recorded = {os.path.normpath(f"{PACKAGES}/{row.split(',')[0]}") for row in rows}
    sources = [Path(path) for path in recorded if path.endswith(".py")]
    owned = recorded | {f"{path.parent}/__pycache__/{path.stem}.cpython-313.pyc" for path in sources}
    old = set(base.files["mplhep"])
    assert f"{PACKAGES}/mplhep-{old_version}.dist-info/METADATA" in old
    assert sorted(path for path in old - owned if os.path.lexists(root / path)) == []
    there = {path.relative_to(root).as_posix() for path in (packages / "mplhep").rglob("*") if path.is_file()}
    assert {path for path in recorded if path.startswith(f"{PACKAGES}/mplhep/")} <= there <= owned
    assert f"{PACKAGES}/mplhep/__pycache__/__init__.cpython-313.pyc" in there
    for name, other in base.inventory.analysis.by_name.items():
        if name != "mplhep":
            missing = [path for path in base.files[name] if not os.path.lexists(root / path)]
            assert missing == [], f"{other.name} lost files"
    identity = json.loads((root / "etc/casabinder/env.json").read_text())
    assert (identity["env_id"], identity["image_id"]) == (record.env_id, record.image_id)
    assert (root / "srv/repo/ttbar.py").read_bytes() == (EXAMPLE / "ttbar.py").read_bytes()


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs Docker")
def test_in_docker_both_environments_are_consistent(record: ImageRecord) -> None:
    def run(*command: str) -> str:
        arguments = ["docker", "run", "--rm", "--network=none", by_digest(record), *command]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    try:
        assert run("pip", "check") == "No broken requirements found."
        assert run("pip", "--python", "/srv/jupyter/bin/python", "check") == "No broken requirements found."
        program = "import json, mplhep, particle; print(mplhep.__version__)"
        assert run("python", "-c", program) == "0.4.1"
        assert run("id", "-u") == "1000"
    finally:
        subprocess.run(["docker", "rmi", "--force", by_digest(record)], capture_output=True, check=False)


def test_a_new_commit_uploads_what_is_new(
    record: ImageRecord, facility: Facility, real_base: BaseChoice, tmp_path: Path
) -> None:
    repository = example_repository(tmp_path / "agc")
    elsewhere = replace(facility, prefix="commits")
    first = build(RepoSpec(str(repository)), Bases.only(real_base), elsewhere)
    assert first.digest == record.digest
    commit_files(repository, {"notes.md": "# New\n"})
    second = build(RepoSpec(str(repository)), Bases.only(real_base), elsewhere)
    assert second.env_id == first.env_id
    assert [layer.what for layer in second.layers if layer.source == "uploaded"] == ["repository", "env.json"]
    assert 0 < second.bytes["uploaded"] < 20_000
    git(repository, "commit", "--quiet", "--amend", "-m", "other words, same files")
    third = build(RepoSpec(str(repository)), Bases.only(real_base), elsewhere)
    assert third.commit != second.commit
    assert third.cached
    assert (third.digest, third.bytes["uploaded"]) == (second.digest, 0)


def test_a_layout_on_disk_gets_the_same_image(
    record: ImageRecord, repository: Path, facility: Facility, real_base: BaseChoice, tmp_path: Path
) -> None:
    store = LayoutStore(tmp_path / "layouts")
    elsewhere = replace(facility, store=store, registry=f"oci:{tmp_path / 'layouts'}", prefix="")
    made = build(RepoSpec(str(repository)), Bases.only(replace(real_base, store=facility.store)), elsewhere)
    assert made.digest == record.digest
    slug = RepoSpec(str(repository)).slug
    assert record.image_id in store.tags(slug)
    for layer in store.get_manifest(slug, record.image_id).layers:
        assert store.head_blob(slug, layer.digest) == layer.size
