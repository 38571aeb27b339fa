"""A repository's own ``pylock.toml``: what applies, what is a source, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.locking.pylock import LockedPackage, LockError, read_pylock, write_pylock
from builder.locking.stated import LockContents, read_stated_lock
from tests.testbed.tiny_base import TARGET

A, B, C = "a" * 64, "b" * 64, "c" * 64
HEAD = 'lock-version = "1.0"\ncreated-by = "test"\n'


def entry(name: str, *lines: str, version: str = "1.0") -> str:
    return "\n".join([f'[[packages]]\nname = "{name}"\nversion = "{version}"', *lines, ""])


def wheel(file: str, sha256: str = A) -> str:
    return f'{{ url = "https://host.example/{file}", hashes = {{ sha256 = "{sha256}" }} }}'


def wheels(*files: str) -> str:
    return f"wheels = [{', '.join(files)}]"


def contents(*entries: str, head: str = HEAD, file: str = "binder/pylock.toml") -> LockContents:
    return read_stated_lock(head + "".join(entries), TARGET, file, "tiny")


def test_markers_groups_and_extras_decide_what_applies() -> None:
    one = wheels(wheel("x-1.0-py3-none-any.whl"))
    found = contents(
        entry("main", one.replace("x-1.0", "main-1.0")),
        entry("here", one.replace("x-1.0", "here-1.0"), "marker = \"sys_platform == 'linux'\""),
        entry("there", "marker = \"sys_platform == 'win32'\""),
        entry("test", one.replace("x-1.0", "test-1.0"), "marker = \"'test' in dependency_groups\""),
        entry("docs", "marker = \"'docs' in dependency_groups or 'docs' in extras\""),
        head=HEAD + 'default-groups = ["test"]\n',
    )
    assert [package.name for package in found.packages] == ["here", "main", "test"]


def test_the_best_wheel_is_taken_and_every_listed_hash_allowed() -> None:
    text = entry(
        "Pkg",
        wheels(wheel("pkg-1.0-py3-none-any.whl"), wheel("pkg-1.0-cp313-cp313-manylinux_2_28_x86_64.whl", B)),
        f'sdist = {{ url = "https://host.example/pkg-1.0.tar.gz", hashes = {{ sha256 = "{C}" }} }}',
    )
    found = contents(text)
    assert (found.packages[0].sha256, found.sources) == (B, ())
    assert found.allowed == {"pkg": frozenset({A, B, C})}


def test_what_has_no_wheel_is_a_source() -> None:
    found = contents(
        entry("a", f'sdist = {{ url = "https://host.example/a-1.0.tar.gz", hashes = {{ sha256 = "{A}" }} }}'),
        entry("b", 'vcs = { type = "git", url = "https://host.example/b", commit-id = "0123", subdirectory = "x" }'),
        entry("c", 'directory = { path = "../c", editable = true }'),
        entry("d", f'archive = {{ url = "https://host.example/d.zip", hashes = {{ sha256 = "{B}" }} }}'),
        entry(
            "e", f'archive = {{ url = "https://host.example/e-1.0-py3-none-any.whl", hashes = {{ sha256 = "{C}" }} }}'
        ),
    )
    assert [(s.kind, s.url or s.path, s.ref, s.subdirectory, s.hashes) for s in found.sources] == [
        ("archive", "https://host.example/a-1.0.tar.gz", "", "", (A,)),
        ("git", "https://host.example/b", "0123", "x", ()),
        ("local", "c", "", "", ()),
        ("archive", "https://host.example/d.zip", "", "", (B,)),
    ]
    assert [package.filename for package in found.packages] == ["e-1.0-py3-none-any.whl"]
    assert found.sources[0].source == "binder/pylock.toml, a"


OK = wheels(wheel("a-1.0-py3-none-any.whl"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('lock-version = "2.0"', "the lock version is '2.0'; 1.0 is known"),
        (HEAD + "environments = [\"sys_platform == 'win32'\"]", "is for none but"),
        (HEAD + 'requires-python = "<3.13"', "is for Python <3.13, and the base tiny has 3.13.5; choose another base"),
        (HEAD + entry("a", OK, 'requires-python = ">=3.14"'), "a 1.0 is for Python >=3.14, and the base tiny"),
        (HEAD + entry("a", OK) + entry("A", OK), "a is there twice"),
        (HEAD + entry("a", wheels('{ url = "https://h/a-1.0-py3-none-any.whl" }')), "has no sha256"),
        (HEAD + entry("a", 'sdist = { url = "https://h/a-1.0.tar.gz" }'), "its sdist has no sha256"),
        (HEAD + entry("a", OK.replace("https", "file")), "has no address on the web"),
        (HEAD + entry("a", OK.replace("url", "path").replace("https://host.example/", "")), "has no address"),
        (HEAD + entry("a", 'directory = { path = "../../x" }'), "leads out of the repository"),
        (HEAD + entry("a", 'vcs = { type = "hg", url = "https://h/a", commit-id = "1" }'), "only git repositories"),
        (HEAD + entry("a", 'vcs = { type = "git", url = "https://h/a" }'), "has no `commit-id`"),
        (HEAD + entry("a", wheels(wheel("a-1.0-cp312-cp312-win32.whl"))), "a 1.0 has no wheel for Python 3.13"),
        (HEAD + entry("a", wheels(wheel("a-2.0-py3-none-any.whl"))), "has a wheel of another version"),
        (HEAD + "packages = 3", "`packages` must be an array of tables"),
    ],
)
def test_a_lock_that_cannot_be_honoured_is_refused(text: str, message: str) -> None:
    with pytest.raises(LockError, match=message) as caught:
        read_stated_lock(text, TARGET, "pylock.toml", "tiny")
    assert str(caught.value).startswith("pylock.toml")
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.one_of(
        st.text(max_size=8),
        st.integers(-1, 3),
        st.booleans(),
        st.sampled_from(["git", "1.0", A, "a-1.0-py3-none-any.whl"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["url", "path", "name", "hashes", "sha256", "size", "type"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
KEYS = ["name", "version", "marker", "wheels", "sdist", "vcs", "directory", "archive", "requires-python"]


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES), max_size=3),
    st.dictionaries(st.sampled_from(["environments", "requires-python", "default-groups", "lock-version"]), VALUES),
)
def test_nothing_but_a_lock_error_ever_comes_out(entries: list[dict[str, object]], head: dict[str, object]) -> None:
    lines = {"lock-version": "1.0", **head}
    text = "".join(f"{key} = {toml(value)}\n" for key, value in lines.items()) + f"packages = {toml(entries)}\n"
    for read in (
        lambda: read_stated_lock(text, TARGET, "pylock.toml", "tiny"),
        lambda: read_pylock(text, TARGET),
    ):
        with suppress(LockError):
            read()


@given(st.text(max_size=60))
def test_any_text_is_a_lock_or_a_lock_error(text: str) -> None:
    with suppress(LockError):
        read_stated_lock(text, TARGET, "pylock.toml", "tiny")


PACKAGE = st.builds(
    lambda name, version, sha256, local, size: LockedPackage(
        name,
        version,
        f"{name}-{version}-py3-none-any.whl",
        sha256,
        "" if local else f"https://host.example/{name}-{version}-py3-none-any.whl",
        size,
    ),
    st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True),
    st.sampled_from(["1.0", "2.0.dev1", "1!3.4+local", "0.1rc1"]),
    st.sampled_from([A, B, C]),
    st.booleans(),
    st.integers(0, 2**40),
)


@given(st.lists(PACKAGE, unique_by=lambda package: package.name))
def test_what_is_written_is_read_again(packages: list[LockedPackage]) -> None:
    text = write_pylock(packages, TARGET)
    assert read_pylock(text, TARGET) == sorted(packages)
    for package in packages:
        assert (f'path = "wheels/{package.sha256}/{package.filename}"' in text) or package.url
