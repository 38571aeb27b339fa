"""Where submodules come from."""

from __future__ import annotations

import pytest

from builder.repository.spec import RepositoryError
from builder.repository.submodules import resolve_url


@pytest.mark.parametrize(
    ("location", "url", "expected"),
    [
        ("https://host/group/repo.git", "https://other/x", "https://other/x"),
        ("https://host/group/repo.git", "../other.git", "https://host/group/other.git"),
        ("https://host/group/repo/", "../../x/y.git", "https://host/x/y.git"),
        ("https://host/group/repo", "./nested.git", "https://host/group/repo/nested.git"),
        ("git@host:group/repo", "../other", "git@host:group/other"),
        ("git@host:group/repo", "../../x/y", "git@host:x/y"),
        ("/home/me/repo", "../other", "/home/me/other"),
    ],
)
def test_relative_addresses_are_resolved_as_git_does(location: str, url: str, expected: str) -> None:
    assert resolve_url(location, url) == expected


def test_an_address_above_the_host() -> None:
    with pytest.raises(RepositoryError, match="leads above"):
        resolve_url("https://host/repo", "../../x")
