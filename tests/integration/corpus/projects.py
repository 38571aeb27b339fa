"""Repositories that are Python projects: ``pyproject.toml`` of every kind, ``setup.py``, ``setup.cfg``, and no file."""

from __future__ import annotations

from tests.integration.corpus.case import Case

_SETUPTOOLS = '[build-system]\nrequires = ["setuptools>=61"]\nbuild-backend = "setuptools.build_meta"\n\n'

CASES = (
    Case(
        "nothing-at-all",
        {"histogram.ipynb": "{}\n"},
        imports=("awkward", "coffea", "dask_awkward", "fsspec_xrootd", "hist", "uproot", "XRootD"),
    ),
    Case(
        "only-tools",
        {"pyproject.toml": "[tool.ruff]\nline-length = 100\n", "README.md": "# x\n"},
        imports=("hist",),
        same_as="nothing-at-all",
    ),
    Case(
        "project-without-build-system",
        {
            "pyproject.toml": '[project]\nname = "selection"\nversion = "1"\ndependencies = ["particle>=1"]\n',
            "selection/__init__.py": "import particle\n\nCUT = 25\n",
        },
        imports=("selection", "particle"),
        code="import selection\nassert selection.__file__ == '/srv/repo/selection/__init__.py'",
    ),
    Case(
        "project-with-src",
        {
            "pyproject.toml": '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n\n'
            '[project]\nname = "higgs-combination"\nversion = "2.1"\ndescription = "x"\ndependencies = ["hepunits"]\n',
            "src/higgs_combination/__init__.py": "",
        },
        imports=("higgs_combination", "hepunits"),
        versions={"higgs-combination": "2.1"},
    ),
    Case(
        "dependency-groups",
        {
            "pyproject.toml": '[project]\nname = "jets"\nversion = "1"\ndependencies = ["hepunits"]\n\n'
            '[dependency-groups]\nplots = ["tabulate"]\nnotebook = [{include-group = "plots"}, "particle"]\n'
            'lint = ["ruff"]\n',
            "casabinder.yaml": "groups: [notebook]\n",
            "jets.py": "",
        },
        imports=("jets", "particle", "tabulate"),
        versions={"ruff": ""},
    ),
    Case(
        "optional-dependencies",
        {
            "pyproject.toml": '[project]\nname = "jets"\nversion = "1"\ndependencies = ["hepunits"]\n\n'
            '[project.optional-dependencies]\nplots = ["tabulate"]\nall = ["jets[plots]", "particle"]\n'
            'docs = ["sphinx"]\n',
            "casabinder.yaml": "extras: [all]\n",
            "jets.py": "",
        },
        imports=("jets", "particle", "tabulate"),
        versions={"sphinx": ""},
    ),
    Case(
        "dynamic-project",
        {
            "pyproject.toml": _SETUPTOOLS
            + '[project]\nname = "dynamic-cuts"\ndynamic = ["version", "dependencies"]\n\n[tool.setuptools.dynamic]\n'
            'version = {attr = "dynamic_cuts.VERSION"}\ndependencies = {file = ["deps.txt"]}\n',
            "deps.txt": "hepunits\nparticle >= 1\n",
            "dynamic_cuts/__init__.py": 'VERSION = "3.4"\n',
        },
        imports=("dynamic_cuts", "particle", "hepunits"),
        versions={"dynamic-cuts": "3.4"},
    ),
    Case(
        "poetry-without-lock",
        {
            "pyproject.toml": '[tool.poetry]\nname = "unfolding"\nversion = "0.2.0"\ndescription = ""\nauthors = []\n\n'
            '[tool.poetry.dependencies]\npython = "^3.11"\nparticle = "^1.0"\n'
            'cowsay = {version = "*", optional = true}\n\n'
            '[tool.poetry.extras]\nanimals = ["cowsay"]\n\n'
            '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n',
            "unfolding/__init__.py": "",
        },
        imports=("unfolding", "particle"),
        versions={"unfolding": "0.2.0", "cowsay": ""},
    ),
    Case(
        "requires-older-python",
        {
            "pyproject.toml": '[project]\nname = "run2"\nversion = "1"\nrequires-python = ">=3.9,<3.12"\n'
            'dependencies = ["hepunits"]\n',
            "run2.py": "",
        },
        base="coffea-py311",
        imports=("run2", "hepunits"),
    ),
    Case(
        "setup-py",
        {
            "setup.py": "from setuptools import find_packages, setup\n\nsetup(\n    name='toolbox',\n"
            "    version='1.5',\n"
            "    packages=find_packages(),\n    install_requires=['hepunits'],\n)\n",
            "toolbox/__init__.py": "import hepunits\n",
        },
        imports=("toolbox", "hepunits"),
        versions={"toolbox": "1.5"},
    ),
    Case(  # what computes its version has to be run
        "setup-py-with-code",
        {
            "setup.py": "import re\nfrom pathlib import Path\n\nfrom setuptools import setup\n\n"
            "text = Path('fitlib.py').read_text()\nsetup(\n    name='fitlib',\n"
            "    version=re.search(\"VERSION = '(.*)'\", text)[1],\n    py_modules=['fitlib'],\n"
            "    install_requires=['hepunits'],\n)\n",
            "fitlib.py": "VERSION = '0.9'\n",
        },
        imports=("fitlib", "hepunits"),
        versions={"fitlib": "0.9"},
    ),
    Case(
        "setup-cfg",
        {
            "setup.cfg": "[metadata]\nname = calibration\nversion = 4.0\n\n[options]\npackage_dir =\n    = src\n"
            "packages = find:\ninstall_requires =\n    hepunits\n    particle>=1\n\n"
            "[options.packages.find]\nwhere = src\n",
            "setup.py": "from setuptools import setup\n\nsetup()\n",
            "src/calibration/__init__.py": "import particle\n",
        },
        imports=("calibration", "particle"),
        versions={"calibration": "4.0"},
    ),
    Case(
        "requirements-beside-a-project",
        {
            "requirements.txt": "hepunits\n",
            "pyproject.toml": '[project]\nname = "beside"\nversion = "1"\ndependencies = ["mplhep==0.4.1"]\n',
            "beside.py": "",
        },
        imports=("hepunits",),
        versions={"mplhep": "1."},
        same_as="hidden-binder-directory",
    ),
)
