"""References: the grammar, and that text and value are two forms of the same thing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_sync.errors import InvalidReferenceError
from registry_sync.reference import ImageReference, validate_digest, validate_repository, validate_tag

DIGEST = "sha256:" + "0123456789abcdef" * 4

components = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)
hosts = st.one_of(
    st.sampled_from(["localhost", "[::1]", "[2001:db8::7]:5000", "registry.example", "HUB"]),
    st.from_regex(r"[a-z0-9]{1,8}\.[a-z]{2,4}(:[1-9][0-9]{1,3})?", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,8}:[1-9][0-9]{1,3}", fullmatch=True),
)
tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True)
digests = st.one_of(
    st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True), st.from_regex(r"sha512:[0-9a-f]{128}", fullmatch=True)
)


@given(hosts, repositories, st.none() | tags, st.none() | digests)
def test_a_reference_survives_being_written_and_read(
    host: str, repository: str, tag: str | None, digest: str | None
) -> None:
    reference = ImageReference(host, repository, tag, digest)
    assert ImageReference.parse(str(reference)) == reference


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    try:
        outcome = ImageReference.parse(text, default_registry="registry.example")
    except InvalidReferenceError as error:
        with pytest.raises(InvalidReferenceError, match=re.escape(repr(text))):
            raise error
    else:
        assert ImageReference.parse(str(outcome)) == outcome


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host:5000/a", ImageReference("host:5000", "a")),
        ("host:5000/a/b/c:v1", ImageReference("host:5000", "a/b/c", "v1")),
        (f"localhost/a:v1@{DIGEST}", ImageReference("localhost", "a", "v1", DIGEST)),
        (f"[::1]:5000/a@{DIGEST}", ImageReference("[::1]:5000", "a", None, DIGEST)),
        ("docker.io/debian:13", ImageReference("docker.io", "library/debian", "13")),
    ],
)
def test_forms(text: str, expected: ImageReference) -> None:
    assert ImageReference.parse(text) == expected


def test_default_registry() -> None:
    assert ImageReference.parse("debian", default_registry="docker.io").name == "docker.io/library/debian"
    assert ImageReference.parse("team/image:v1", default_registry="r.example").registry == "r.example"
    with pytest.raises(InvalidReferenceError, match="names no registry"):
        ImageReference.parse("team/image:v1")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("host.x/UPPER", "'UPPER' is not a repository name"),
        ("host.x/a//b", "'a//b' is not a repository name"),
        ("host.x/../etc", "is not a repository name"),
        ("host.x/a___b", "is not a repository name"),
        ("host.x/a\n", "is not a repository name"),
        ("host.x/a:", "'' is not a tag"),
        ("host.x/a:-x", "'-x' is not a tag"),
        ("host.x/a:" + "t" * 129, "is not a tag"),
        ("host.x/a@sha256:abc", "64 lower-case hex"),
        ("host.x/a@md5:" + "0" * 32, "only sha256"),
        ("host.x/a@" + DIGEST.upper(), "only sha256"),
        ("host.x:99999/a", "port"),
        ("[::zz]:1/a", "not a registry"),
        ("[1:2]:1/a", "IPv6"),
        ("https://host.x/a", "not a registry"),
        ("host.x/" + "a" * 255, "255"),
    ],
)
def test_refused(text: str, fault: str) -> None:
    with pytest.raises(InvalidReferenceError) as refused:
        ImageReference.parse(text)
    assert fault in str(refused.value)
    assert repr(text) in str(refused.value)


def test_changes_make_new_values() -> None:
    reference = ImageReference.parse("host.x/a:v1")
    assert reference.reference == "v1"
    assert ImageReference("host.x", "a").reference == "latest"
    assert str(reference.with_digest(DIGEST)) == f"host.x/a:v1@{DIGEST}"
    assert reference.with_digest(DIGEST).reference == DIGEST
    assert str(reference.with_digest(DIGEST).with_tag("v2")) == "host.x/a:v2"
    assert str(reference.with_repository("b/c")) == "host.x/b/c:v1"
    with pytest.raises(InvalidReferenceError):
        reference.with_tag("a b")


def test_validators_return_what_they_checked() -> None:
    assert validate_repository("a/b") == "a/b"
    assert validate_tag("v1") == "v1"
    assert validate_digest(DIGEST) == DIGEST
