"""``requirements.txt``: what pip reads, and what is refused with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from builder.environment.requirements import read_requirements
from builder.environment.spec import EnvironmentFileError

HASH = "sha256:" + "0" * 64


def read(text: str | bytes, **others: str) -> tuple[list[str], list[str]]:
    """Return requirements and constraints of ``binder/requirements.txt``; others are files by name."""
    files = {"binder/requirements.txt": text if isinstance(text, bytes) else text.encode()}
    files |= {name.replace("__", "/") + ".txt": content.encode() for name, content in others.items()}
    requirements, constraints = read_requirements("binder/requirements.txt", files.get)
    return [str(item.requirement) for item in requirements], [str(item.requirement) for item in constraints]


def test_the_format_of_pip() -> None:
    requirements, constraints = read(
        "\ufeff# comment\n"
        "\n"
        "numpy>=2  # trailing comment\n"
        "coffea[dask,parsl] == 2025.1 ; python_version >= '3.9'\r\n"
        "uproot \\\n  >=5,\\\n  <6\n"
        f"pinned==1.0 --hash={HASH} \\\n    --hash {HASH}\n"
        "--prefer-binary\n"
        "-r more.txt\n"
        "--constraint=../limits.txt\n",
        binder__more="hist\n-c ../limits.txt\n",
        limits="scipy<2\n-r other.txt\n",
        other="pandas<3\n",
    )
    assert requirements == [
        "numpy>=2",
        'coffea[dask,parsl]==2025.1; python_version >= "3.9"',
        "uproot<6,>=5",
        "pinned==1.0",
        "hist",
    ]
    assert constraints == ["scipy<2", "pandas<3"] * 2


def test_each_requirement_knows_its_line_and_its_hashes() -> None:
    text = f"# first\n\none \\\n  ==1.0 \\\n  --hash={HASH}\ntwo"
    one, two = read_requirements("requirements.txt", lambda _: text.encode())[0]
    assert (one.source, one.hashes) == ("requirements.txt, line 3", ("0" * 64,))
    assert (two.source, two.hashes) == ("requirements.txt, line 6", ())


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "\\\n", "   \n\t\n"])
def test_a_file_may_ask_for_nothing(text: str) -> None:
    assert read(text) == ([], [])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("numpy==", "'numpy==' is not a requirement"),
        ("numpy 2", "is not a requirement"),
        ("=1", "is not a requirement"),
        ("$NAME", "is not a requirement"),
        ("-e .", "editable installs are not supported"),
        ("--editable=.", "editable installs are not supported"),
        ("--index-url https://host/simple", "the option --index-url is not supported"),
        ("-i https://host/simple", "the option -i is not supported"),
        ("--pre", "the option --pre is not supported"),
        ("git+https://github.com/a/b", "does not come from the package index"),
        ("https://host/pkg-1.0-py3-none-any.whl", "does not come from the package index"),
        ("pkg @ https://host/pkg.zip", "does not come from the package index"),
        ("pkg@file:///etc/passwd", "does not come from the package index"),
        ("pkg@local", "does not come from the package index"),
        ("./pkg", "does not come from the package index"),
        ("../pkg", "does not come from the package index"),
        ("/opt/pkg", "does not come from the package index"),
        (".", "does not come from the package index"),
        ("pkg-1.0.tar.gz", "does not come from the package index"),
        ("-r ../../secret.txt", "../../secret.txt is not a file of the repository"),
        ("-r /etc/passwd", "/etc/passwd is not a file of the repository"),
        ("-r https://host/r.txt", "is not a file of the repository"),
        ("-r requirements.txt", "include each other"),
        ("-r missing.txt", "binder/requirements.txt includes binder/missing.txt, which is not in the repository"),
        ("numpy --hash=md5:0123", "is not a requirement"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_line(line: str, words: str) -> None:
    with pytest.raises(EnvironmentFileError) as caught:
        read(f"numpy\n\n{line}\n")
    message = str(caught.value)
    assert words in message
    assert message.startswith("binder/requirements.txt")
    assert "line 3" in message or "includes" in message
    assert "\n" not in message


def test_a_file_that_is_no_text() -> None:
    with pytest.raises(EnvironmentFileError, match=r"binder/requirements.txt, line 2: the file is not UTF-8 text"):
        read(b"numpy\n\xff\xfe\n")


def test_a_name_that_is_no_file() -> None:
    with pytest.raises(EnvironmentFileError, match=r"requirements.txt is not a file, or a symlink to none"):
        read_requirements("requirements.txt", lambda _: None)


def test_files_that_include_each_other() -> None:
    with pytest.raises(EnvironmentFileError, match=r"binder/b.txt, line 1: .* include each other"):
        read("-r b.txt", binder__b="-r requirements.txt")


def test_files_that_include_each_other_a_million_times_over() -> None:
    nested = {f"f{n}.txt": b"-r f%d.txt\n" % (n + 1) * 20 for n in range(9)} | {"f9.txt": b"numpy\n"}
    with pytest.raises(EnvironmentFileError, match="more than 100 files are included"):
        read_requirements("f0.txt", nested.get)


NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
VERSIONS = st.from_regex(r"(==|>=|<|~=|!=)[0-9]\.[0-9]{1,2}", fullmatch=True)
LINES = st.builds(
    lambda name, extras, versions: name + (f"[{','.join(extras)}]" if extras else "") + ",".join(versions),
    NAMES,
    st.lists(NAMES, max_size=2),
    st.lists(VERSIONS, max_size=2),
).filter(lambda line: not line.endswith((".whl", ".zip", ".tar.gz")))
BLANKS = st.sampled_from(["", "# a comment\n", "\n", "   # indented \\\n"])
COMMENTS = st.sampled_from(["", "  # said so", "\t#", " # with \\ and == in it"])
ENDINGS = st.sampled_from(["\n", "\r\n"])


@given(st.lists(st.tuples(BLANKS, LINES, COMMENTS, ENDINGS)))
def test_every_requirement_is_read_whatever_stands_around_it(items: list[tuple[str, str, str, str]]) -> None:
    text = "".join(blank + line + comment + ending for blank, line, comment, ending in items)
    assert read(text) == ([str(Requirement(line)) for _, line, _, _ in items], [])


@given(LINES.filter(lambda line: "==" in line), st.lists(st.integers(1, 40), max_size=3))
def test_a_line_may_be_continued_between_its_parts(line: str, cuts: list[int]) -> None:
    whole = line.replace(",", ", ")
    text = whole.replace(" ", " \\\n") + "\n" * len(cuts)
    assert read(text) == ([str(Requirement(line))], [])


@given(st.one_of(st.text(), st.text(alphabet="-rce=# \\\n./@[];'\"<>=~!numpy0123456789")))
def test_any_text_is_either_read_or_refused_in_one_line(text: str) -> None:
    try:
        requirements, _ = read(text.encode("utf-8", "replace"))
    except EnvironmentFileError as error:
        message = str(error)
    else:
        assert all(Requirement(line) and not line.startswith("-") for line in requirements)
        return
    assert "\n" not in message
    assert "requirements.txt" in message
