"""What a URL's parameters mean, and that none leads away from the notebook server."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.refusal import RefusedError
from launcher.service.parameters import LaunchParameters, local_path, relative_path
from launcher.site_config import Limits, Site

SITE = Site(limits=Limits(cpus=2, memory="4G", workers=4))
BASE = "https://hub.example.org/user/visitor/server/"
NBGITPULLER = "git-pull?repo=https%3A%2F%2Fgithub.com%2Fa%2Fb&urlpath=lab%2Ftree%2Fb%2Fx.ipynb&branch=main"


def parse(**arguments: str) -> LaunchParameters:
    return LaunchParameters.parse({name: [value] for name, value in arguments.items()}, SITE)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({}, ""),
        ({"urlpath": "lab"}, "lab"),
        ({"urlpath": "/lab/tree/a b.ipynb"}, "lab/tree/a b.ipynb"),
        ({"urlpath": NBGITPULLER}, NBGITPULLER),
        ({"urlpath": "/" + NBGITPULLER}, NBGITPULLER),
        ({"labpath": "notes/a b.ipynb"}, "lab/tree/notes/a%20b.ipynb"),
        ({"filepath": "/a?b.ipynb"}, "lab/tree/a%3Fb.ipynb"),
        ({"labpath": "l", "filepath": "f", "urlpath": "u"}, "lab/tree/l"),
        ({"filepath": "f", "urlpath": "u"}, "lab/tree/f"),
        ({"urlpath": "lab", "theme": "dark", "token": "stolen"}, "lab?theme=dark"),
        ({"urlpath": "git-pull?repo=x", "depth": "1"}, "git-pull?repo=x&depth=1"),
        ({"urlpath": "lab#anchor"}, "lab#anchor"),
    ],
)
def test_what_is_opened(arguments: dict[str, str], path: str) -> None:
    """Paths go below the server; what is not ours is handed on; nobody's token is."""
    assert parse(**arguments).path == path


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example.org/x",
        "///evil.example.org",
        "/\\evil.example.org",
        "\\\\evil.example.org",
        "http:evil.example.org",
        "https://evil.example.org",
        "javascript:alert(1)",
        "/%2Fevil.example.org",
        "%2f%2fevil.example.org",
        "%5cevil.example.org",
        "../../hub/logout",
        "lab/%2e%2e/%2E%2E/other",
        "lab/%252e%252e/x",
        "lab/..%2f..%2fx",
        "\t//evil.example.org",
        "/\n/evil.example.org",
        "lab\r\nLocation: https://evil.example.org",
        "lab%0d%0aX-Header: 1",
        "lab\x00",
        "x" * 5000,
    ],
)
def test_what_leads_away_is_refused(path: str) -> None:
    """Every way that browsers read as another host or another person's server."""
    with pytest.raises(RefusedError) as refused:
        parse(urlpath=path)
    assert refused.value.status == 400
    assert local_path(path) == "/"


@given(st.text(max_size=60) | st.from_regex(r"[/\\.%:@?#a-z0-9\t\n]{0,20}", fullmatch=True))
def test_what_is_accepted_stays_below_the_server(text: str) -> None:
    """As a browser resolves it."""
    try:
        path = relative_path(text)
    except RefusedError:
        return
    resolved = urlsplit(urljoin(BASE, path))
    assert (resolved.scheme, resolved.netloc) == ("https", "hub.example.org")
    assert resolved.path.startswith("/user/visitor/server/")


def test_the_sites_limits_hold_unless_less_is_asked_for() -> None:
    """Workers share three quarters of the memory; at least 256 MB each."""
    usual = parse().options
    assert (usual.workers, usual.most_workers, usual.cpus, usual.memory) == (2, 4, 2.0, "4G")
    little = parse(memory="1G", cores="0.5", workers="1").options
    assert (little.workers, little.most_workers, little.cpus, little.memory) == (1, 3, 0.5, "1G")
    assert parse(workers="0").options.most_workers == 0
    assert parse(memory="256M").options.workers == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"memory": "8G"}, "memory=8G can't be: this site gives from 256M up to 4G"),
        ({"memory": "1M"}, "memory=1M can't be: this site gives from 256M up to 4G"),
        ({"memory": "much"}, "memory='much' is not a size of memory: give one such as 4G or 512M"),
        ({"cores": "3"}, "cores=3 can't be: this site gives from 0.1 up to 2"),
        ({"cores": "nan"}, "cores=nan can't be: this site gives from 0.1 up to 2"),
        ({"cores": "1e300"}, "cores=1e300 can't be: this site gives from 0.1 up to 2"),
        ({"workers": "5"}, "workers=5 can't be: this site gives up to 4"),
        ({"workers": "-1"}, "workers=-1 can't be: this site gives up to 4"),
        ({"workers": "4", "memory": "1G"}, "1G of memory is enough for 3 Dask workers, not for 4"),
        ({"as_of": "2025-02-30"}, "as_of='2025-02-30' is not a day: give one such as 2025-06-30, or `commit`"),
    ],
)
def test_beyond_the_limits_is_refused_with_a_sentence(arguments: dict[str, str], sentence: str) -> None:
    """It says what there is."""
    with pytest.raises(RefusedError) as refused:
        parse(**arguments)
    assert str(refused.value) == sentence


def test_bytes_of_a_query_are_text_in_utf_8() -> None:
    """tornado has them as bytes; what can't be decoded is refused, not guessed."""
    assert LaunchParameters.parse({"labpath": ["é.ipynb".encode()]}, SITE).path == "lab/tree/%C3%A9.ipynb"
    with pytest.raises(RefusedError):
        LaunchParameters.parse({"labpath": [b"\xff"]}, SITE)
    assert parse(base="b", as_of="2025-06-30") == LaunchParameters(parse().options, "", "b", "2025-06-30")
