"""The corpus, built a second time by another builder in another way: every image has the digest it had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.corpus import BUILT
from tests.testbed.corpus import chosen, make_repository
from tests.testbed.index_mirror import running_index_mirror
from tests.testbed.other_builders import NOBODY, ROOT, engine_groups, nobody_can_build, other_pythons, with_dependencies
from tests.testbed.registry import registry_is_installed
from tests.testbed.second_builder import question

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.locking.resolver import PackageIndex
    from tests.integration.corpus.case import Case
    from tests.testbed.corpus import Corpus

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]

REPRODUCIBLE = tuple(case for case in BUILT if case.reproducible)
SURROUNDINGS = {
    "TZ": "Asia/Kathmandu",
    "LANG": "tr_TR.UTF-8",  # where the lower-case I has no dot
    "PYTHONHASHSEED": "4711",
    "PYTHONUTF8": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SOURCE_DATE_EPOCH": "1",
}


@pytest.fixture(scope="module")
def digests(
    corpus: Corpus,
    site_index: PackageIndex,
    index_pages: Path,
    request: pytest.FixtureRequest,
) -> Mapping[str, str]:
    """The digests of two further builders, which share the cases and differ from the first in umask, time zone, locale,
    TMPDIR, HOME, address of the index, order of files, place in the registry, and a cache that has wheels only; one has
    another Python, the other is another user (with another Python, too, if the user may run it)."""
    cases = chosen(request.session, REPRODUCIBLE)[::-1]
    others = other_pythons()
    # Not below pytest's own directory: every pytest that starts closes that to other users.
    with tempfile.TemporaryDirectory(prefix="casabinder-builders-") as name, ThreadPoolExecutor() as pool:
        scratch = Path(name)
        scratch.chmod(0o755)
        other = with_dependencies(others[-1], scratch / "venv") if others else sys.executable
        nobodys = [python for python in (other, sys.executable) if nobody_can_build(python)]
        builders: list[tuple[str, int | None]] = [(other, None), (nobodys[0], NOBODY) if nobodys else (other, None)]
        running = []
        for number, (python, user) in enumerate(builders):
            directory = scratch / f"builder{number}"
            repositories = {}
            for case in cases[number :: len(builders)]:
                files = dict(reversed(list(corpus.files(case).items())))
                repositories[case.name] = make_repository(directory / "work" / case.name, files, case.executable)
            _copy_wheels(corpus.facility.cache / "wheels", directory / "cache" / "wheels")
            running.append(pool.submit(_built, corpus, repositories, site_index, index_pages, directory, python, user))
        return {name: digest for future in running for name, digest in future.result().items()}


def _built(
    corpus: Corpus,
    repositories: Mapping[str, Path],
    site_index: PackageIndex,
    index_pages: Path,
    directory: Path,
    python: str,
    user: int | None,
) -> dict[str, str]:
    """Build repositories with another interpreter, as another user, and return the digests by name."""
    for name in ("home", "tmp"):
        (directory / name).mkdir()
    if user is not None:
        _give(directory, user)
    with running_index_mirror(site_index, index_pages) as index:
        fetching = replace(corpus.facility.fetching, private_addresses=True)
        elsewhere = replace(corpus.facility, prefix=f"other/{directory.name}", index=index, fetching=fetching)
        asked = question(elsewhere, corpus.bases, directory / "cache", repositories)
        done = subprocess.run(
            [python, "-m", "tests.testbed.second_builder"],
            input=json.dumps(asked),
            env={
                **{name: os.environ[name] for name in os.environ if "PROXY" in name.upper() or name.startswith("SSL_")},
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "HOME": str(directory / "home"),
                "TMPDIR": str(directory / "tmp"),
                **SURROUNDINGS,
            },
            cwd=directory,
            umask=0o077,
            user=user,
            group=user,
            extra_groups=engine_groups() if user is not None else None,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", REPRODUCIBLE, ids=lambda case: case.name)
def test_another_builder_makes_the_same_image(case: Case, corpus: Corpus, digests: Mapping[str, str]) -> None:
    assert digests[case.name] == corpus.outcome(case).image.digest


def _copy_wheels(source: Path, target: Path) -> None:
    """Give a builder the wheels that others have fetched, as files of its own."""
    for wheel in source.glob("*/*/*.whl"):
        copy = target / wheel.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            copy.hardlink_to(wheel)
        except OSError:  # another file system
            shutil.copy2(wheel, copy)


def _give(directory: Path, user: int) -> None:
    """Make a user the owner of a directory and all in it but the wheels, which are hard links to other people's."""
    for path in [directory, *directory.rglob("*")]:
        if path.suffix != ".whl":
            os.chown(path, user, user, follow_symlinks=False)
