"""Pages of a package index, as HTML and JSON, and the choice of a source distribution."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from builder.sources.errors import SourceBuildError
from builder.sources.index_page import IndexFile, newest_sdist, parse_page

URL = "https://index.example/simple/thing/"
JSON = "application/vnd.pypi.simple.v1+json"
HASH = "a" * 64
HTML = f"""<!DOCTYPE html><html><body><h1>Links</h1>
<a href="../../files/thing-1.0.tar.gz#sha256={HASH}" data-requires-python="&gt;=3.9">thing-1.0.tar.gz</a>
<a href="https://files.example/thing-1.1.tar.gz#sha256={HASH}" data-yanked="">thing-1.1.tar.gz</a>
<a href="/files/thing-2.0-py3-none-any.whl#md5=0">x</a>
<a href="file:///etc/thing-3.0.tar.gz">no</a><a href="http://[bad/thing-3.0.tar.gz">no</a><a>no</a>
</body></html>"""
PAGE = {
    "meta": {"api-version": "1.1"},
    "name": "thing",
    "files": [
        {
            "filename": "thing-1.0.tar.gz",
            "url": "../../files/thing-1.0.tar.gz",
            "hashes": {"sha256": HASH},
            "requires-python": ">=3.9",
        },
        {
            "filename": "thing-1.1.tar.gz",
            "url": "https://files.example/thing-1.1.tar.gz",
            "hashes": {"sha256": HASH},
            "yanked": True,
        },
        {"filename": "thing-2.0-py3-none-any.whl", "url": "/files/thing-2.0-py3-none-any.whl", "hashes": {"md5": "0"}},
        {"filename": "thing-3.0.tar.gz", "url": "file:///etc/thing-3.0.tar.gz", "hashes": {}},
        "no",
    ],
}
FILES = [
    IndexFile("thing-1.0.tar.gz", "https://index.example/files/thing-1.0.tar.gz", HASH, ">=3.9"),
    IndexFile("thing-1.1.tar.gz", "https://files.example/thing-1.1.tar.gz", HASH, yanked=True),
    IndexFile("thing-2.0-py3-none-any.whl", "https://index.example/files/thing-2.0-py3-none-any.whl"),
]


def test_both_forms_of_a_page_say_the_same() -> None:
    assert parse_page(HTML.encode(), "text/html; charset=utf-8", URL) == FILES
    assert parse_page(json.dumps(PAGE).encode(), JSON, URL) == FILES


@pytest.mark.parametrize("body", [b"", b"[]", b'{"files": 3}', b"{}", b"\xff"])
def test_json_that_is_no_page(body: bytes) -> None:
    with pytest.raises(SourceBuildError, match=r"JSON that is no project page"):
        parse_page(body, JSON, URL)


def test_a_declaration_that_is_none_ends_the_page() -> None:
    assert parse_page(f"{HTML}<![x[ <a href='late-1.0.tar.gz'>".encode(), "text/html", URL) == FILES


@example("<a href='HTTP:0'>")
@example("<a href='https:///0'>")
@given(st.text() | st.sampled_from([HTML, HTML.replace("href", "HREF")]).flatmap(st.permutations).map("".join))
def test_no_html_page_breaks_the_reader(text: str) -> None:
    for file in parse_page(text.encode("utf-8", "replace"), "text/html", URL):
        assert file.url.startswith(("http://", "https://"))
        assert "/" not in file.filename


def _entries(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(["filename", "url", "hashes", "requires-python", "yanked", "x"]), values)


VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=8), lambda v: st.lists(v, max_size=2) | _entries(v), max_leaves=6
)


@given(st.lists(VALUES, max_size=3))
def test_no_json_entry_breaks_the_reader(entries: list[object]) -> None:
    for file in parse_page(json.dumps({"files": entries}).encode(), JSON, URL):
        assert file.url.startswith(("http://", "https://"))
        assert "/" not in file.filename


def sdist(version: str, python: str = "", suffix: str = ".tar.gz", *, yanked: bool = False) -> IndexFile:
    return IndexFile(f"thing-{version}{suffix}", f"https://x/{version}", HASH, python, yanked)


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("thing", "2.0"),
        ("thing<2", "1.10"),
        ("thing==1.9", "1.9"),
        ("thing>=3", "5.0rc1"),
        ("thing==4.0", "4.0"),
        ("thing==5.0rc1", "5.0rc1"),
        ("thing>=5.0rc1", "5.0rc1"),
        ("thing>7", None),
        ("Thing[extra]<2", "1.10"),
    ],
)
def test_the_newest_that_fits_is_taken(requirement: str, version: str | None) -> None:
    files = [
        sdist("1.9"),
        sdist("1.10"),
        sdist("2.0"),
        sdist("3.0", ">=3.99"),
        sdist("4.0", yanked=True),
        sdist("5.0rc1"),
        sdist("6.0", "nonsense"),
        IndexFile("other-9.0.tar.gz", "https://x/9"),
        IndexFile("thing-9.0-py3-none-any.whl", "https://x/9"),
        IndexFile("thing.tar.gz", "https://x/9"),
    ]
    chosen = newest_sdist(files, Requirement(requirement), "3.13.5")
    assert (chosen and chosen.url) == (version and f"https://x/{version}")


def test_the_tar_is_taken_before_the_zip() -> None:
    files = [sdist("1.0", suffix=".zip"), sdist("1.0"), sdist("1.0", suffix=".zip")]
    chosen = newest_sdist(files, Requirement("thing"), "3.13.5")
    assert chosen is not None
    assert chosen.filename == "thing-1.0.tar.gz"
