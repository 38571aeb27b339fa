"""The corpus: repositories as the field has them, in every format that is read, with what has to come out of each."""

from __future__ import annotations

from tests.integration.corpus import containers, locks, projects, refusals, requirements

CASES = (*requirements.CASES, *projects.CASES, *locks.CASES, *containers.CASES, *refusals.CASES)
BUILT = tuple(case for case in CASES if not case.refusal)
RUN = tuple(case for case in BUILT if not case.same_as)
REFUSED = tuple(case for case in CASES if case.refusal)
