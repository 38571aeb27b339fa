"""``requirements.txt``: what pip reads, and what is refused with its line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from builder.environment.requirements import read_requirements
from builder.environment.spec import EnvironmentFileError, SourceRequirement, StatedRequirement
from tests.unit.builder.environment.in_memory import MemoryFiles

HASH = "sha256:" + "0" * 64


def read(text: str | bytes, **others: str) -> tuple[list[str], list[str]]:
    """Return requirements and constraints of ``binder/requirements.txt``; others are files by name."""
    files: dict[str, str | bytes] = {"binder/requirements.txt": text}
    files |= {name.replace("__", "/") + ".txt": content for name, content in others.items()}
    found = read_requirements("binder/requirements.txt", MemoryFiles(files))
    requirements = [str(wish.requirement) for wish in found.wishes if isinstance(wish, StatedRequirement)]
    return requirements, [str(item.requirement) for item in found.constraints]


def source(line: str) -> SourceRequirement:
    files = {"requirements.txt": line, "sub/pyproject.toml": "", "src/pkg.py": ""}
    (wish,) = read_requirements("requirements.txt", MemoryFiles(dict(files))).wishes
    assert isinstance(wish, SourceRequirement)
    return replace(wish, source="")


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
    one, two = read_requirements("requirements.txt", MemoryFiles({"requirements.txt": text})).wishes
    assert isinstance(one, StatedRequirement)
    assert isinstance(two, StatedRequirement)
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
        ("--index-url https://host/simple", "the facility decides where packages come from"),
        ("-i https://host/simple", "the facility decides where packages come from"),
        ("-fhttps://host", "the facility decides where packages come from"),
        ("--trusted-host=host", "the facility decides where packages come from"),
        ("--unknown", "the option --unknown is not supported"),
        ("https://${TOKEN}@host/a.whl", "${TOKEN} is not known when the image is built"),
        ("svn+https://host/a", "svn repositories can't be fetched"),
        ("hg+https://host/a", "hg repositories can't be fetched"),
        ("git+file:///etc", "can't be fetched"),
        ("git+https://user:word@host/a/b", "holds a user name or password"),
        ("https://host/page.html", "names no wheel or archive"),
        ("https://host/a.whl#sha256=12", "does not have 64 hex digits"),
        ("pkg@file:///etc/passwd", "can't be fetched"),
        ("pkg@local", "the repository has no directory 'local'"),
        ("./pkg", "the repository has no directory './pkg'"),
        ("../../pkg", "is not a directory of the repository"),
        ("/opt/pkg", "is not a directory of the repository"),
        ("-e https://host/page", "names no wheel or archive"),
        ("pkg-1.0.tar.gz", "is a file; name a directory"),
        ("git+https://host/a@-x", "is not understood"),
        ("git+https://host/a#egg=--x", "is not a package name"),
        ("git+https://host/a#subdirectory=../x", "leads out"),
        ("numpy --config-settings=a=b", "the option --config-setting"),
        ("-r ../../secret.txt", "../../secret.txt is not a file of the repository"),
        ("-r /etc/passwd", "/etc/passwd is not a file of the repository"),
        ("-r https://host/r.txt", "is not a file of the repository"),
        ("-r requirements.txt", "include each other"),
        ("-r missing.txt", "binder/requirements.txt includes binder/missing.txt, which is not in the repository"),
        ("numpy --hash=md5:0123", "only --hash=sha256:"),
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
        read_requirements("requirements.txt", MemoryFiles({}))


def test_files_that_include_each_other() -> None:
    with pytest.raises(EnvironmentFileError, match=r"binder/b.txt, line 1: .* include each other"):
        read("-r b.txt", binder__b="-r requirements.txt")


def test_files_that_include_each_other_a_million_times_over() -> None:
    nested: dict[str, str | bytes] = {f"f{n}.txt": b"-r f%d.txt\n" % (n + 1) * 20 for n in range(9)}
    nested["f9.txt"] = b"numpy\n"
    with pytest.raises(EnvironmentFileError, match="more than 100 files are included"):
        read_requirements("f0.txt", MemoryFiles(nested))


COMMIT = "c" * 40


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-e .", SourceRequirement("local", "", editable=True)),
        ("--editable=./sub", SourceRequirement("local", "", path="sub", editable=True)),
        (".[plots, fits]", SourceRequirement("local", "", extras=("fits", "plots"))),
        ("sub/", SourceRequirement("local", "", path="sub")),
        (
            f"git+https://host/a/b.git@{COMMIT}#egg=pkg[x]&subdirectory=py",
            SourceRequirement(
                "git", "", url="https://host/a/b.git", ref=COMMIT, subdirectory="py", name="pkg", extras=("x",)
            ),
        ),
        (
            "-e git+ssh://git@host/a/b@v1#egg=Pkg",
            SourceRequirement("git", "", url="ssh://git@host/a/b", ref="v1", name="pkg", editable=True),
        ),
        (
            "pkg @ git+https://host/a/b ; python_version < '3.12'",
            SourceRequirement("git", "", url="https://host/a/b", name="pkg", marker='python_version < "3.12"'),
        ),
        (
            "https://host/pkg-1.0-py3-none-any.whl#sha256=" + "0" * 64,
            SourceRequirement(
                "archive", "", url="https://host/pkg-1.0-py3-none-any.whl", name="pkg", hashes=("0" * 64,)
            ),
        ),
        ("pkg @ https://host/v1.tar.gz", SourceRequirement("archive", "", url="https://host/v1.tar.gz", name="pkg")),
        (
            f"https://host/v1.tar.gz --hash={HASH}",
            SourceRequirement("archive", "", url="https://host/v1.tar.gz", hashes=("0" * 64,)),
        ),
    ],
)
def test_what_does_not_come_from_the_index(line: str, expected: SourceRequirement) -> None:
    assert source(line) == expected


def test_a_directory_starts_from_the_root_as_with_pip_or_from_the_file() -> None:
    files = MemoryFiles({"binder/requirements.txt": "-e .\n-e ..\n", "a.py": ""})
    wishes = read_requirements("binder/requirements.txt", files).wishes
    assert [wish.path for wish in wishes if isinstance(wish, SourceRequirement)] == ["", ""]


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
