"""What a build's log means."""

import pytest

from builder.sources.sandbox import _reason, last_meaningful_line

TRACEBACK = """  File "/build/driver.py", line 3, in hook
    raise KeyError('x')
KeyError: 'x'
""".splitlines()


def test_the_last_line_that_names_an_error_is_shown() -> None:
    assert last_meaningful_line([*TRACEBACK, "", "  indented"]) == "KeyError: 'x'"
    assert last_meaningful_line(["copying", "error: no such thing", "bye"]) == "error: no such thing"
    assert last_meaningful_line(["one", "two", ""]) == "two"
    assert last_meaningful_line(["error: bad flag", "subprocess.CalledProcessError: Command"]) == "error: bad flag"
    assert last_meaningful_line([]) == ""


@pytest.mark.parametrize(
    ("answer", "log", "sentence"),
    [
        ({"error": "no project"}, [], "neither a pyproject.toml nor a setup.py"),
        ({"error": "archive", "message": "bad\ngzip"}, [], "its archive can't be unpacked: bad gzip"),
        ({"error": "backend", "message": "No module named 'x'"}, [], "can't be used: No module named 'x'"),
        ({"error": "no wheel", "message": "y.whl"}, [], "there is no such file"),
        ({"error": "failed", "status": -9}, [], "needs more than LIMIT"),
        ({"error": "failed", "status": 1}, TRACEBACK, "KeyError: 'x'"),
        ({"error": "failed", "status": 1}, [], "did not say why"),
        (
            {"error": "failed", "status": 1},
            ["error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory"],
            "it needs a compiler, which the base does not have",
        ),
        ({}, ["a Linux system needs:", "sudo apt-get install build-essential"], "it needs a compiler"),
        ({}, ["-- The CXX compiler identification is unknown", "CalledProcessError: ['cmake'"], "it needs a compiler"),
        ({}, ["CMake Error: no build program.  CMAKE_MAKE_PROGRAM is not set."], "it needs a compiler"),
        ({}, ["OSError: [Errno 28] No space left on device"], "more scratch space"),
        ({}, ["socket.gaierror: [Errno -3] Temporary failure in name resolution"], "asks the network"),
    ],
)
def test_why_a_build_failed(answer: dict[str, object], log: list[str], sentence: str) -> None:
    assert sentence in _reason(answer, log, "LIMIT")
