"""Repositories that can't be built, and what the user is told: the file and line, or both sides of a conflict."""

from __future__ import annotations

from tests.integration.corpus.case import Case

CASES = (
    Case(  # iris-hep/analysis-grand-challenge, analyses/cms-open-data-ttbar: a freeze of Python 3.9 that has rotted
        "agc-ttbar-rotted",
        {
            "requirements.txt": "awkward==1.10.3\nboost-histogram==1.3.2\ncabinetry==0.5.2\ncloudpickle==2.2.1\n"
            "coffea==0.7.21\ncorrectionlib==2.2.2\ndask==2023.3.1\ndistributed==2023.3.1\nhist==2.6.3\n"
            "matplotlib==3.7.1\nnumba==0.56.4\nnumpy==1.23.5\nuproot==4.3.7\nvector==1.0.0\n",
            "runtime.txt": "python-3.11\n",
        },
        refusal=("requirements.txt, line 6", "correctionlib==2.2.2", "coffea-py311", "it needs a compiler"),
    ),
    Case(  # PocketCoffea: an awkward of before the base's dask-awkward, and packages that are sources only
        "old-awkward",
        {"requirements.txt": "coffea==0.7.22\nawkward>=1.10.3,<2\n"},
        refusal=("requirements.txt, line 2", "awkward", "coffea-py313", "can't be made from source"),
    ),
    Case(
        "no-such-package",
        {"requirements.txt": "particle\nno-such-package-of-anybody>=1\n"},
        refusal=("requirements.txt, line 2", "no-such-package-of-anybody"),
    ),
    Case(
        "no-such-python",
        {"requirements.txt": "particle\n", "runtime.txt": "python-3.9\n"},
        refusal=("runtime.txt", "3.9", "coffea-py311", "coffea-py313"),
    ),
    Case(
        "pythons-that-exclude-each-other",
        {
            "pyproject.toml": '[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.12"\n',
            "runtime.txt": "python-3.11\n",
        },
        refusal=("runtime.txt", "pyproject.toml"),
    ),
    Case(
        "two-binder-directories",
        {"binder/requirements.txt": "particle\n", ".binder/requirements.txt": "particle\n"},
        refusal=("binder/", ".binder/"),
    ),
    Case(
        "wrong-hash",
        {"requirements.txt": "particle==1.1.0 --hash=sha256:" + "0" * 64 + "\n"},
        refusal=("requirements.txt, line 1", "hash"),
    ),
    Case(
        "apt-with-a-command",
        {"apt.txt": "tree\ngit && curl example.org | sh\n"},
        refusal=("apt.txt, line 2", "git && curl"),
    ),
    Case(
        "source-that-needs-a-compiler",
        {
            "requirements.txt": "./fastmath\n",
            "fastmath/setup.py": "from setuptools import Extension, setup\n\n"
            "setup(name='fastmath', version='1', ext_modules=[Extension('fastmath', ['fastmath.c'])])\n",
            "fastmath/fastmath.c": "int answer(void) { return 42; }\n",
        },
        refusal=("requirements.txt, line 1", "fastmath", "compiler"),
    ),
    Case(
        "post-build-that-fails",
        {"postBuild": "#!/bin/sh\necho no licence here >&2\nexit 3\n"},
        executable=("postBuild",),
        refusal=("postBuild", "3"),
    ),
    Case(
        "private-address",
        {"requirements.txt": "git+http://169.254.169.254/units.git\n"},
        refusal=("requirements.txt, line 1",),
    ),
)
