from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.container.dockerfile import context_entries, why_failed
from builder.container.engine import ContainerLimits
from builder.layers.content import read_content
from builder.repository.spec import Commit, RepoSpec
from builder.repository.tree import Tree
from tests.testbed.git_repository import commit_files, git

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = ContainerLimits(memory=512 * 10**6)


@pytest.mark.parametrize(
    ("step", "said", "sentence"),
    [
        (
            "FROM nosuch.example/x:1 AS build",
            'Get "https://nosuch.example/v2/": dial tcp: lookup nosuch.example: no such host',
            "Dockerfile: nosuch.example/x:1 can't be pulled: the registry does not answer",
        ),
        (
            "FROM registry.test/x:1",
            "manifest for registry.test/x:1 not found: manifest unknown: manifest unknown",
            "Dockerfile: there is no image registry.test/x:1; check its name",
        ),
        (
            "RUN make",
            " ---> Running in 0123456789ab\nmake: no rule\nThe command '/bin/sh -c make' returned a non-zero code: 2",
            "Dockerfile: RUN make: failed with exit code 2: make: no rule",
        ),
        (
            "RUN python big.py",
            "The command '/bin/sh -c python big.py' returned a non-zero code: 137",
            "Dockerfile: RUN python big.py: it was killed, most likely because it needed more than the 512 MB",
        ),
        (
            "RUN --mount=type=cache,target=/x true",
            "the --mount option requires BuildKit. Refer to the documentation",
            "Dockerfile: RUN --mount=type=cache,target=/x true: this needs BuildKit",
        ),
        (
            "",
            "Error response from daemon: dockerfile parse error line 3: unknown instruction: NONSENSE",
            "Dockerfile: dockerfile parse error line 3: unknown instruction: NONSENSE",
        ),
        ("COPY a /", "", "Dockerfile: COPY a /: the engine did not say why"),
    ],
)
def test_why_a_dockerfile_was_not_built_is_one_sentence(step: str, said: str, sentence: str) -> None:
    assert why_failed("Dockerfile", step, said, LIMITS).startswith(sentence)


@pytest.mark.parametrize(
    ("below", "paths"),
    [("", {"Dockerfile", "sub", "sub/Dockerfile", "sub/a.txt"}), ("sub", {"Dockerfile", "a.txt"})],
)
def test_the_context_is_the_git_tree(below: str, paths: set[str], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    commit = commit_files(repository, {"Dockerfile": "FROM a\n", "sub/Dockerfile": "FROM b\n", "sub/a.txt": "a"})
    (repository / "not-committed").write_text("x")
    tree = Tree(
        Commit(RepoSpec(str(repository), subdirectory=below), commit, "HEAD"),
        repository / ".git",
        git(repository, "rev-parse", "HEAD^{tree}"),
    )
    entries = {entry.path: entry for entry in context_entries(tree, below)}
    assert set(entries) == paths
    assert b"".join(read_content(entries["Dockerfile"])) == (b"FROM b\n" if below else b"FROM a\n")
