"""Every repository of the corpus: it builds, starts, imports what it asks for in notebook and worker, and is clean."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from builder.container.engine import docker_lines
from tests.integration.corpus import BUILT, REFUSED, RUN
from tests.testbed.corpus import chosen
from tests.testbed.image_findings import Findings, forget, look_at
from tests.testbed.launching import engine_answers
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.record import ImageRecord
    from tests.integration.corpus.case import Case
    from tests.testbed.corpus import Corpus

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

AT_ONCE = 2
MEGABYTE = 10**6


def name_of(case: Case) -> str:
    return case.name


def removed(record: ImageRecord) -> set[str]:
    """Return the names of the base's packages that the image does without."""
    prefix = "removed of the base: "
    lists = [layer.what.removeprefix(prefix) for layer in record.layers if layer.what.startswith(prefix)]
    return {package.split()[0] for listed in lists for package in listed.split(", ")}


@pytest.fixture(scope="module")
def findings(
    corpus: Corpus, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[Findings]]]:
    """What is found in the images: containers run while further images are built. The bases stay until the end."""
    cache = tmp_path_factory.mktemp("servers")
    bases = [
        f"{offer.choice.registry}/{offer.choice.repository}:{offer.choice.reference}" for offer in corpus.bases.offers
    ]
    for base in bases:
        list(docker_lines("pull", base))  # by its tag, and for as long as it takes
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = {}
            for case in chosen(request.session, RUN):
                record = corpus.outcome(case).record
                if record is not None:
                    found[case.name] = pool.submit(
                        look_at,
                        record,
                        cache,
                        imports=case.imports,
                        distributions=case.versions,
                        code=case.code,
                        workers=case.workers,
                    )
            yield found
    finally:
        for base in bases:
            forget(base)


@pytest.mark.parametrize("case", BUILT, ids=name_of)
def test_it_builds(case: Case, corpus: Corpus) -> None:
    outcome = corpus.outcome(case)
    record = outcome.image
    assert record.base.name == case.base
    assert record.reproducible is case.reproducible
    gone = removed(record)
    assert gone >= set(case.replaced)
    if not case.replaced:
        # Nothing; but a lock that is made today may have packages that are newer than the base's.
        locked = "".join(corpus.files(case)[path] for path in case.locked)
        assert [name for name in gone if f'name = "{name}"' not in locked] == []
    assert [note for note in case.notes if note not in outcome.said] == [], outcome.said


@pytest.mark.parametrize("case", [case for case in BUILT if case.same_as], ids=name_of)
def test_it_is_the_same_environment_as_another(case: Case, corpus: Corpus) -> None:
    (other,) = (other for other in RUN if other.name == case.same_as)
    assert corpus.outcome(case).image.env_id == corpus.outcome(other).image.env_id
    assert set(case.imports) <= set(other.imports)


@pytest.mark.parametrize("case", RUN, ids=name_of)
def test_it_runs(case: Case, corpus: Corpus, findings: Mapping[str, Future[Findings]]) -> None:
    record = corpus.outcome(case).image
    found = findings[case.name].result()
    assert found.api["version"]
    assert found.error == ""
    places = [found.kernel, *([found.worker] if case.workers else [])]
    for place in places:
        assert place["env_id"] == record.env_id
        wrong = {
            name: there
            for name, there in place["versions"].items()
            if not (there.startswith(case.versions[name]) and bool(there) == bool(case.versions[name]))
        }
        assert wrong == {}
    assert found.pip_check == "No broken requirements found."
    assert [place for place, size in found.sizes.items() if size > MEGABYTE] == []


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_it_is_refused_with_a_sentence(
    case: Case, corpus: Corpus, record_property: Callable[[str, object], None]
) -> None:
    outcome = corpus.outcome(case)
    assert outcome.record is None
    assert [part for part in case.refusal if part not in outcome.error] == [], outcome.error
    assert "\n" not in outcome.error
    record_property("sentence", outcome.error)


def test_the_corpus_is_as_big_as_promised() -> None:
    assert len(RUN) >= 40
