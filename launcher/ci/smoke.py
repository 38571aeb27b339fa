"""The smoke test of an image: what is tried, and what came of it, as data.

A repository's own ``image-tests/`` decide if there are any. Otherwise the packages that the repository declares are
imported, and the notebooks that its ``casabinder.yaml`` names are executed.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from builder.escapes import without_colours
from launcher.ci.inside_image import CHECK, DONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.attachments.sbom import Contents
    from builder.environment.spec import EnvironmentSpec
    from builder.repository.tree import Tree

DIRECTORY = "image-tests"
State = Literal["passed", "failed", "skipped"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SAID_LINES = 40


@dataclass(frozen=True)
class SmokePlan:
    """What is tried in an image: distributions to import, notebooks to execute, or a directory of tests (or ``""``).

    Modules that are ``left_out`` are not imported.
    """

    packages: tuple[str, ...] = ()
    notebooks: tuple[str, ...] = ()
    tests: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to try."""
        return not (self.packages or self.notebooks or self.tests)

    def to_json(self) -> str:
        """Return the plan as the program inside the image reads it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Check:
    """One thing that was tried; ``said`` is the end of what it said when it failed."""

    name: str
    passed: bool
    said: str = ""


@dataclass(frozen=True)
class SmokeReport:
    """What came of a smoke test; ``why`` says why it was skipped, or why it did not come to its end."""

    state: State
    checks: tuple[Check, ...] = ()
    why: str = ""


def plan_smoke_test(spec: EnvironmentSpec, tree: Tree, contents: Contents) -> SmokePlan:
    """Return what is tried in the image of a repository."""
    below = tree.commit.spec.subdirectory
    for directory in dict.fromkeys((f"{below}/{DIRECTORY}" if below else DIRECTORY, DIRECTORY)):
        if tree.has_directory(directory):
            return SmokePlan(tests=directory)
    return SmokePlan(packages=tuple(_declared(spec, contents)), notebooks=spec.settings.notebooks)


def read_report(lines: Iterable[str]) -> SmokeReport:
    """Return the report that the program inside the image wrote among what packages and tests write."""
    checks, done, last = [], False, ""
    for line in lines:
        if line.startswith(CHECK):
            checks.append(_check(line.removeprefix(CHECK)))
        elif line == DONE:
            done = True
        else:
            last = line.strip() or last
    if not done:
        return SmokeReport("failed", tuple(checks), f"it did not come to its end: {last or 'nothing was said'}"[:500])
    return SmokeReport("passed" if all(check.passed for check in checks) else "failed", tuple(checks))


def _declared(spec: EnvironmentSpec, contents: Contents) -> list[str]:
    """Return the distributions of the analysis environment that the repository asks for by name.

    A lock file lists everything: of that, those count that nothing else requires.
    """
    installed = contents.of("analysis")
    if spec.lock is None:
        names = {_canonical(one.requirement.name) for one in spec.requirements}
    else:
        own = {name for name, one in installed.items() if one.origin != "base"}
        needed = {
            _canonical(match[0]) for name in own for line in installed[name].requires if (match := _NAME.match(line))
        }
        names = own - needed
    return sorted(names & installed.keys())


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _check(text: str) -> Check:
    try:
        document = json.loads(text)
        said = "\n".join(without_colours(str(document["said"])).splitlines()[-_SAID_LINES:])
        return Check(str(document["name"]), document["passed"] is True, said)
    except (ValueError, KeyError, TypeError):
        return Check("a line that can't be read", passed=False, said=text[:200])
