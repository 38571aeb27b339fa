"""Builds the corpus: real git repositories of its cases, one image of each, made when it is first asked for."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from builder.build import build
from builder.repository.spec import RepoSpec
from registry_sync.errors import CasabinderError
from tests.integration.corpus.case import Case
from tests.testbed.git_repository import commit_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from builder.facility import Bases, Facility
    from builder.record import ImageRecord

# What the case `vcs` installs: a repository elsewhere, with a tag, a branch, and a project in a subdirectory.
UNITS = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools>=61"]\nbuild-backend = "setuptools.build_meta"\n\n'
    '[project]\nname = "units"\nversion = "1.0"\ndependencies = ["hepunits"]\n\n'
    '[tool.setuptools]\npy-modules = ["units"]\n',
    "units.py": "import hepunits\n",
    "more/pyproject.toml": '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n\n'
    '[project]\nname = "histories"\nversion = "2.0"\ndescription = "x"\n',
    "more/histories.py": "",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a case: a record or the sentence of an error, and what the build said meanwhile."""

    case: Case
    record: ImageRecord | None
    error: str
    said: str

    @property
    def image(self) -> ImageRecord:
        """The record; an assertion with the sentence fails if there is none."""
        assert self.record is not None, f"{self.case.name}: {self.error}"
        return self.record


@dataclass
class Corpus:
    """Where the cases are built: ``fill`` are the texts of their placeholders, ``scratch`` gets the repositories."""

    facility: Facility
    bases: Bases
    fill: Mapping[str, str]
    scratch: Path
    _outcomes: dict[str, Outcome] = field(default_factory=dict)
    _files: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def outcome(self, case: Case) -> Outcome:
        """Build a case, unless that was done before."""
        if case.name not in self._outcomes:
            self._outcomes[case.name] = self._build(case)
        return self._outcomes[case.name]

    def files(self, case: Case) -> Mapping[str, str]:
        """Return all files of a case, the locks among them that are made here and now."""
        if case.name not in self._files:
            files = {path: self._filled(text) for path, text in case.files.items()}
            for path in case.locked:
                files[path] = self._locked(case.name, path, files)
            self._files[case.name] = files
        return self._files[case.name]

    def _filled(self, text: str) -> str:
        for name, value in self.fill.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def _locked(self, name: str, path: str, files: Mapping[str, str]) -> str:
        directory = self.scratch / "locking" / name
        write_files(directory, files)
        lock = directory / path
        common = ["--quiet", "--no-config", "--default-index", self.fill["index"], "--no-python-downloads"]
        common += ["--cache-dir", str(self.facility.index.cache)] if self.facility.index.cache else []
        command = ["lock", *common]
        if lock.name != "uv.lock":
            command = [
                "pip",
                "compile",
                "pyproject.toml",
                *common,
                "--python-version",
                "3.13",
                "--format",
                "pylock.toml",
                "-o",
                lock.name,
            ]
        subprocess.run([find_uv_bin(), *command], cwd=lock.parent, check=True)
        return lock.read_text(encoding="utf-8")

    def _build(self, case: Case) -> Outcome:
        said: list[str] = []
        # Where a user meets a refusal, the site has the default rules; else the corpus's own git server may be asked.
        fetching = self.facility.fetching if case.refusal else replace(self.facility.fetching, private_addresses=True)
        facility = replace(self.facility, fetching=fetching)
        try:
            directory = make_repository(self.scratch / "first" / case.name, self.files(case), case.executable)
            record = build(RepoSpec(str(directory)), self.bases, facility, lambda event: said.append(event.message))
        except CasabinderError as error:
            return Outcome(case, None, str(error), "\n".join(said))
        return Outcome(case, record, "", "\n".join(said))


def chosen(session: pytest.Session, cases: Iterable[Case]) -> list[Case]:
    """Return the cases of which this run has a test; other modules may have parameters of their own."""
    names = {
        case.name
        for item in session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        if isinstance(case := item.callspec.params.get("case"), Case)
    }
    return [case for case in cases if case.name in names]


def make_repository(directory: Path, files: Mapping[str, str], executable: Iterable[str] = ()) -> Path:
    """Write files in their order, commit them, and return the repository; the same files give the same commit."""
    write_files(directory, files)
    for path in executable:
        (directory / path).chmod(0o755)
    commit_files(directory, {})
    return directory


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write files (path to text) below a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text, encoding="utf-8")
