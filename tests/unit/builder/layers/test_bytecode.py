"""Bytecode of modules: where it goes, that it is the same whatever was compiled before, and what gets none."""

from __future__ import annotations

import importlib.util
import marshal
from pathlib import Path

import pytest

from builder.layers.bytecode import (
    LARGEST_MODULE,
    LOADER,
    PROGRAM,
    Interpreter,
    bytecode_path,
    identity,
    interpreter_archive,
)
from builder.layers.errors import LayerError
from builder.layers.layer import Entry
from tests.testbed.interpreter import LOADER_SCRIPT

SITE = "srv/env/lib/python3.13/site-packages"


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    archive = interpreter_archive([(PROGRAM, b"this one"), (LOADER, LOADER_SCRIPT.encode())])
    return Interpreter.unpack(archive, "3.13", tmp_path / "interpreters" / "one")


def modules(count: int = 12) -> list[Entry]:
    """Modules that share many names, strings, numbers and sets with each other."""
    text = "NAME = 'name{n}'\nSET = {{'a', 'b', {n}, 2**70}}\ndef f(x, y=(1, {n}.5)):\n    return x in {{'p', 'q'}}\n"
    return [Entry(f"{SITE}/pkg/m{n}.py", "file", text.format(n=n).encode()) for n in range(count)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{SITE}/six.py", f"{SITE}/__pycache__/six.cpython-313.pyc"),
        (f"{SITE}/a/b.c.py", f"{SITE}/a/__pycache__/b.c.cpython-313.pyc"),
        (f"{SITE}/a/tests/b.py", ""),
        (f"{SITE}/a/b.pyi", ""),
        (f"{SITE}/a/.py", ""),
        (f"{SITE}/{'a' * 250}.py", ""),
        (f"{SITE}-other/b.py", ""),
        ("srv/env/bin/b.py", ""),
    ],
)
def test_where_bytecode_goes(path: str, expected: str) -> None:
    assert bytecode_path(Entry(path, "file"), SITE, "3.13") == expected
    assert bytecode_path(Entry(path, "symlink", target="x"), SITE, "3.13") == ""


def test_it_is_unchecked_and_runs(interpreter: Interpreter) -> None:
    (made,) = interpreter.bytecode([Entry(f"{SITE}/m.py", "file", b"def f():\n    return 6 * 7\n")], SITE)
    assert isinstance(made.content, bytes)
    assert made.content[:8] == importlib.util.MAGIC_NUMBER + b"\1\0\0\0"
    code = marshal.loads(made.content[16:])
    assert code.co_filename == code.co_consts[0].co_filename == f"/{SITE}/m.py"
    names: dict[str, object] = {}
    exec(code, names)
    assert names["f"]() == 42  # type: ignore[operator]


def test_it_does_not_depend_on_what_else_is_compiled(interpreter: Interpreter) -> None:
    everything = interpreter.bytecode(modules(), SITE)
    assert len(everything) == 12
    alone = [made for entry in reversed(modules()) for made in interpreter.bytecode([entry], SITE)]
    assert sorted(alone, key=lambda entry: entry.path) == everything


def test_what_cannot_be_compiled_has_none(interpreter: Interpreter) -> None:
    entries = [
        Entry(f"{SITE}/two.py", "file", b"print 'Python 2'\n"),
        Entry(f"{SITE}/nul.py", "file", b"x = '\0'\n"),
        Entry(f"{SITE}/coded.py", "file", b"# coding: rot13\nx = 1\n"),
        Entry(f"{SITE}/deep.py", "file", b"-" * 200_000 + b"1\n"),
        Entry(f"{SITE}/large.py", "file", b"#" * LARGEST_MODULE + b"\n"),
        Entry(f"{SITE}/warns.py", "file", b"x = '\\d'\n"),
        Entry(f"{SITE}/good.py", "file", b"x = 1\n"),
    ]
    made = {Path(entry.path).name.partition(".")[0] for entry in interpreter.bytecode(entries, SITE)}
    assert made == {"good", "warns"}


def test_no_modules_need_no_interpreter(tmp_path: Path) -> None:
    assert Interpreter(tmp_path, "3.13").bytecode([Entry(f"{SITE}/x.so", "file", b"")], SITE) == []


def test_an_interpreter_that_cannot_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="cannot be run on this machine"):
        Interpreter(tmp_path, "3.13").bytecode(modules(1), SITE)


def test_bytecode_is_named_by_the_release() -> None:
    assert identity("3.13.5") == identity("3.13.5") != identity("3.13.6")


@pytest.mark.parametrize("name", ["../python", "/python", "lib/../../x", "a//b", ".hidden"])
def test_an_archive_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="unusable file"):
        Interpreter.unpack(interpreter_archive([(name, b"x")]), "3.13", tmp_path / "in" / "one")
    assert list((tmp_path / "in").iterdir()) == []
