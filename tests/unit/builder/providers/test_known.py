"""Specs of URLs as BinderHub's, pasted addresses, and what a page is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.providers.known import PROVIDERS, named_by, parse_pasted, parse_spec
from builder.repository.spec import RepositoryError, RepoSpec

if TYPE_CHECKING:
    from pathlib import Path

HYDROSHARE = "8f7c2f0341ef4180b0dbe97f59130756"


def encoded(text: str) -> str:
    return quote(text, safe="")


@pytest.mark.parametrize(
    ("spec", "url", "ref"),
    [
        ("gh/user/repo/HEAD", "https://github.com/user/repo", "HEAD"),
        ("gh/user/repo.git/feature/x", "https://github.com/user/repo", "feature/x"),
        ("gh/user/repo/a%20b", "https://github.com/user/repo", "a b"),
        ("gist/user/0123456789abcdef", "https://gist.github.com/user/0123456789abcdef", "HEAD"),
        ("gist/user/0123456789abcdef/main", "https://gist.github.com/user/0123456789abcdef", "main"),
        (f"git/{encoded('https://host/a/b.git')}/v1/x", "https://host/a/b.git", "v1/x"),
        (f"git/{encoded('git@host:a/b')}/main", "git@host:a/b", "main"),
        ("gl/group%2Fsub%2Fproject/main", "https://gitlab.com/group/sub/project.git", "main"),
        ("zenodo/10.5281/zenodo.3242074", "zenodo:10.5281/zenodo.3242074", "HEAD"),
        ("figshare/10.6084/m9.figshare.9782777.v1", "figshare:10.6084/m9.figshare.9782777.v1", "HEAD"),
        ("dataverse/10.7910/DVN/TJCLKP", "dataverse:10.7910/DVN/TJCLKP", "HEAD"),
        (f"hydroshare/{HYDROSHARE}", f"hydroshare:{HYDROSHARE}", "HEAD"),
        (
            f"hydroshare/{encoded(f'https://www.hydroshare.org/resource/{HYDROSHARE}/')}",
            f"hydroshare:{HYDROSHARE}",
            "HEAD",
        ),
        (
            f"ckan/{encoded('https://demo.ckan.org/dataset/sample')}",
            "ckan:https://demo.ckan.org/dataset/sample",
            "HEAD",
        ),
    ],
)
def test_specs(spec: str, url: str, ref: str) -> None:
    prefix, _, rest = spec.partition("/")
    assert parse_spec(prefix, rest) == RepoSpec(url, ref)
    assert re.fullmatch(PROVIDERS[prefix].display_config["spec"]["validateRegex"], rest)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gh/user/repo", "is not of the form gh/USER/REPO/REF; did you mean gh/user/repo/HEAD?"),
        ("gh/user/../x", "is not of the form"),
        ("gh/-x/repo/main", "is not of the form"),
        ("gh/a b/repo/main", "is not of the form"),
        ("gist/user", "is not of the form"),
        ("gist/user/../etc", "is not of the form"),
        ("git/https%3A%2F%2Fhost%2Fx", "did you mean git/https://host/x/HEAD"),
        ("git/%2Fetc/main", "is not of the form"),
        ("git/file%3A%2F%2F%2Fetc/main", "is not of the form"),
        ("git/ext%3A%3Ash%20-c/main", "is not of the form"),
        ("git/-oProxyCommand=x/main", "is not of the form"),
        ("git/https%3A%2F%2Fhost%2Fx/--upload-pack=x", "is neither a URL nor a ref"),
        ("gl/project/main", "is not of the form"),
        ("gl/group%2F..%2Fproject/main", "is not of the form"),
        ("zenodo/3242074", "is not of the form"),
        ("dataverse/TJCLKP", "is not of the form"),
        ("hydroshare/abc", "is not of the form"),
        ("ckan/sample", "is not of the form"),
        ("ckan/file%3A%2F%2F%2Fdataset%2Fx", "is not of the form"),
        ("swh/x", "there is no provider 'swh'; there are gh, gist, git, gl, zenodo"),
    ],
)
def test_wrong_specs(spec: str, message: str) -> None:
    prefix, _, rest = spec.partition("/")
    with pytest.raises(RepositoryError) as caught:
        parse_spec(prefix, rest)
    assert message.replace("https://host/x/HEAD", "") in str(caught.value).replace("https://host/x/HEAD", "")


@pytest.mark.parametrize(
    ("text", "provider", "spec", "path"),
    [
        ("https://github.com/user/repo", "gh", "user/repo/HEAD", ""),
        ("github.com/user/repo.git", "gh", "user/repo/HEAD", ""),
        (" https://www.github.com/user/repo/ ", "gh", "user/repo/HEAD", ""),
        ("https://github.com/user/repo/tree/main", "gh", "user/repo/main", ""),
        ("https://github.com/user/repo/blob/main/dir/a%20b.ipynb?raw=1#x", "gh", "user/repo/main", "dir/a b.ipynb"),
        ("https://github.com/user/repo/commit/" + "1" * 40, "gh", "user/repo/" + "1" * 40, ""),
        ("https://github.com/user/repo/releases/tag/v1.0", "gh", "user/repo/refs/tags/v1.0", ""),
        ("https://github.com/user/repo/pull/12/files", "gh", "user/repo/refs/pull/12/head", ""),
        ("https://gist.github.com/user/0123456789abcdef", "gist", "user/0123456789abcdef/HEAD", ""),
        ("https://gitlab.com/a/b/c", "gl", "a%2Fb%2Fc/HEAD", ""),
        ("https://gitlab.com/a/b/c/-/blob/main/x/y.ipynb", "gl", "a%2Fb%2Fc/main", "x/y.ipynb"),
        ("https://gitlab.com/a/b/-/tree/dev", "gl", "a%2Fb/dev", ""),
        ("https://gitlab.cern.ch/a/b.git", "git", encoded("https://gitlab.cern.ch/a/b.git") + "/HEAD", ""),
        ("git@github.com:user/repo.git", "git", encoded("git@github.com:user/repo.git") + "/HEAD", ""),
        ("ssh://git@host:7999/x/y", "git", encoded("ssh://git@host:7999/x/y") + "/HEAD", ""),
        ("10.5281/zenodo.3242074", "zenodo", "10.5281/zenodo.3242074", ""),
        ("doi:10.5281/zenodo.3242074", "zenodo", "10.5281/zenodo.3242074", ""),
        ("https://doi.org/10.5281/zenodo.3242074", "zenodo", "10.5281/zenodo.3242074", ""),
        ("https://zenodo.org/records/3242074", "zenodo", "10.5281/zenodo.3242074", ""),
        ("https://zenodo.org/record/3242074/files/x.zip", "zenodo", "10.5281/zenodo.3242074", ""),
        ("https://zenodo.org/doi/10.5281/zenodo.3242074", "zenodo", "10.5281/zenodo.3242074", ""),
        ("https://doi.org/10.6084/m9.figshare.9782777.v1", "figshare", "10.6084/m9.figshare.9782777.v1", ""),
        ("https://figshare.com/articles/dataset/Title/9782777/2", "figshare", "10.6084/m9.figshare.9782777.v2", ""),
        ("https://doi.org/10.7910/DVN/TJCLKP", "dataverse", "10.7910/DVN/TJCLKP", ""),
        (
            "https://dataverse.harvard.edu/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP",
            "dataverse",
            "10.7910/DVN/TJCLKP",
            "",
        ),
        (f"https://www.hydroshare.org/resource/{HYDROSHARE}/", "hydroshare", HYDROSHARE, ""),
        (f"https://doi.org/10.4211/hs.{HYDROSHARE}", "hydroshare", HYDROSHARE, ""),
        ("https://demo.ckan.org/dataset/sample", "ckan", encoded("https://demo.ckan.org/dataset/sample"), ""),
    ],
)
def test_pasted(text: str, provider: str, spec: str, path: str) -> None:
    found = parse_pasted(text)
    assert (found.provider, found.spec, found.path) == (provider, spec, path)
    parse_spec(found.provider, found.spec)


@pytest.mark.parametrize(
    "text", ["", "hello world", "/etc/passwd", "file:///etc", "-x", "https://", "javascript:alert(1)"]
)
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(RepositoryError):
        parse_pasted(text)


@given(
    st.one_of(st.text(), st.from_regex(r"https?://(github\.com|gitlab\.com|zenodo\.org|x)(/[^\s]*)?", fullmatch=True))
)
def test_whatever_is_pasted_can_be_parsed_or_is_refused_with_a_sentence(text: str) -> None:
    try:
        found = parse_pasted(text)
        parse_spec(found.provider, found.spec)
    except RepositoryError:
        return


@given(st.sampled_from(sorted(PROVIDERS)), st.text())
def test_any_spec_is_parsed_or_refused_with_a_sentence(prefix: str, spec: str) -> None:
    try:
        found = parse_spec(prefix, spec)
    except RepositoryError:
        return
    assert not found.is_local
    assert not found.url.startswith(("-", "file:"))


@pytest.mark.parametrize("prefix", PROVIDERS)
def test_what_a_page_is_told(prefix: str) -> None:
    config = PROVIDERS[prefix].display_config
    assert set(config) == {"displayName", "id", "spec", "detect", "repo", "ref"}
    assert config["id"] == prefix
    assert set(config["repo"]) == {"label", "placeholder", "urlEncode"}
    assert set(config["ref"]) == {"enabled", "default"}
    placeholder = config["repo"]["placeholder"].removeprefix("example: ").split(" or ")[-1]
    detect = re.compile(config["detect"]["regex"].replace("(?<", "(?P<"))
    found = detect.match(placeholder)
    if prefix != "gist":  # its example is no URL
        assert found
        repository = found["repo"]
        spec = (encoded(repository) if config["repo"]["urlEncode"] else repository) + (
            "/HEAD" if config["ref"]["enabled"] else ""
        )
        assert parse_spec(prefix, spec) == parse_spec(prefix, parse_pasted(placeholder).spec)


@pytest.mark.parametrize(
    ("prefix", "text", "repository"),
    [
        ("gh", "https://github.com/user/repo/blob/main/x.ipynb", "user/repo"),
        ("gh", "https://github.com/user/repo.git", "user/repo"),
        ("gist", "https://gist.github.com/user/0123abcd", "user/0123abcd"),
        ("gl", "https://gitlab.com/a/b/c/-/tree/main/x", "a/b/c"),
        ("git", "git@host:a/b", "git@host:a/b"),
        ("zenodo", "https://doi.org/10.5281/zenodo.1", "10.5281/zenodo.1"),
        ("dataverse", "https://x.org/dataset.xhtml?persistentId=doi:10.7910/DVN/X", "10.7910/DVN/X"),
    ],
)
def test_what_a_page_finds_in_a_pasted_address(prefix: str, text: str, repository: str) -> None:
    detect = PROVIDERS[prefix].display_config["detect"]["regex"].replace("(?<", "(?P<")
    match = re.match(detect, text)
    assert match
    assert match["repo"] == repository


def test_another_host() -> None:
    hosts = {"gl": "https://gitlab.cern.ch/"}
    assert parse_spec("gl", "a%2Fb/main", hosts).url == "https://gitlab.cern.ch/a/b.git"
    assert parse_pasted("https://gitlab.cern.ch/a/b/-/tree/main", hosts).provider == "gl"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("10.5281/zenodo.12", "zenodo:10.5281/zenodo.12"),
        ("https://doi.org/10.7910/DVN/X", "dataverse:10.7910/DVN/X"),
        ("https://zenodo.org/records/12", "zenodo:10.5281/zenodo.12"),
        ("zenodo:10.5281/zenodo.12", "zenodo:10.5281/zenodo.12"),
        ("https://github.com/user/repo", "https://github.com/user/repo"),
        ("git@host:a/b", "git@host:a/b"),
        ("https://host/dataset/x", "https://host/dataset/x"),
        ("./here", "./here"),
    ],
)
def test_what_a_person_names_at_a_command_line(text: str, url: str) -> None:
    assert named_by(text, "HEAD", "") == RepoSpec(url)


def test_a_directory_is_one_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "10.5281" / "zenodo.12").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert named_by("10.5281/zenodo.12", "HEAD", "").is_local
