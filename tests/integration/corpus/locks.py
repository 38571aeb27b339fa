"""Repositories that bring a lock of their own, and ``Pipfile``: what is locked is what is installed."""

from __future__ import annotations

from tests.integration.corpus.case import Case, lock_file

_MASSES = """\
[project]
name = "masses"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["attrs==26.1.0", "hepunits==2.4.7", "particle==1.1.0"]
"""
_LOCKED = {"particle": "1.1.0", "hepunits": "2.4.7", "attrs": "26.1.0"}
_OLD = '[project]\nname = "old-plots"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["mplhep==0.4.1"]\n'
_PIPFILE = """\
[[source]]
name = "index"
url = "{index}"
verify_ssl = true

[packages]
particle = ">=1.0"

[dev-packages]
tabulate = "*"

[requires]
python_version = "3.13"
"""

_PINNED_PIPFILE = """\
[packages]
attrs = "==26.1.0"
hepunits = "==2.4.7"
particle = {version = "==1.1.0"}

[dev-packages]
tabulate = "==0.10.0"
"""

CASES = (
    Case(
        "pylock",
        {"pyproject.toml": _MASSES, "masses.py": "", "requirements.txt": "mplhep==0.4.1\n"},
        locked=("pylock.toml",),
        imports=("particle",),
        versions={"mplhep": "1."},
        same_as="binder-hides-root",
    ),
    Case(
        "named-pylock",
        {"binder/pyproject.toml": _MASSES},
        locked=("binder/pylock.binder.toml",),
        imports=("particle",),
        same_as="binder-hides-root",
    ),
    Case(
        "uv-lock",
        {"pyproject.toml": _MASSES + "\n[tool.uv]\npackage = false\n", "requirements.txt": "mplhep==0.4.1\n"},
        locked=("uv.lock",),
        imports=("particle",),
        versions={"mplhep": "1."},
        same_as="binder-hides-root",
    ),
    Case(
        "uv-lock-of-a-package",
        {
            "pyproject.toml": _MASSES
            + '\n[project.optional-dependencies]\nlhe = ["pylhe"]\n\n[dependency-groups]\ndev = ["cowsay"]\n\n'
            '[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n',
            "casabinder.yaml": "extras: [lhe]\ngroups: []\n",
            "src/masses/__init__.py": "import particle\n",
        },
        locked=("uv.lock",),
        imports=("masses", "particle", "pylhe"),
        versions={"masses": "0.1.0", "cowsay": ""},
    ),
    Case(
        "uv-lock-replaces",
        {"pyproject.toml": _OLD + "\n[tool.uv]\npackage = false\n"},
        locked=("uv.lock",),
        imports=("mplhep",),
        versions={"mplhep": "0.4.1"},
        replaced=("mplhep",),
    ),
    Case(
        "poetry-lock",
        {
            "pyproject.toml": '[tool.poetry]\nname = "masses"\nversion = "0.1.0"\n'
            'description = "Masses and widths for a tutorial"\nauthors = ["A. Student <a@example.org>"]\n'
            'package-mode = false\n\n[tool.poetry.dependencies]\npython = ">=3.11,<3.14"\nparticle = "^1.0"\n\n'
            '[tool.poetry.group.dev.dependencies]\ntabulate = ">=0.9"\n',
            "poetry.lock": lock_file("poetry.lock"),
        },
        imports=("particle",),
        versions=_LOCKED,
        same_as="everything-pinned",
    ),
    Case(
        "pdm-lock",
        {
            "pyproject.toml": '[project]\nname = "masses"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
            'dependencies = ["particle>=1.0"]\n\n[tool.pdm]\ndistribution = false\n',
            "pdm.lock": lock_file("pdm.lock"),
        },
        imports=("particle",),
        versions=_LOCKED,
    ),
    Case(
        "pipfile",
        {"Pipfile": _PINNED_PIPFILE, "requirements.txt": "mplhep==0.4.1\n"},
        imports=("particle", "tabulate"),
        versions={"mplhep": "1."},
        same_as="everything-pinned",
    ),
    Case(
        "pipfile-lock",
        {"Pipfile": _PIPFILE, "Pipfile.lock": lock_file("Pipfile.lock"), "setup.py": "raise SystemExit\n"},
        imports=("particle", "tabulate"),
        versions={**_LOCKED, "tabulate": "0.10.0"},
        same_as="everything-pinned",
    ),
    Case(
        "pipfile-lock-in-binder",
        {
            "binder/Pipfile": _PIPFILE,
            "binder/Pipfile.lock": lock_file("Pipfile.lock"),
            "Pipfile": "not TOML\n",
            "requirements.txt": "mplhep==0.4.1\n",
        },
        imports=("particle",),
        versions={**_LOCKED, "mplhep": "1."},
        same_as="everything-pinned",
    ),
)
