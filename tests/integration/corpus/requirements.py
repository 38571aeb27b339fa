"""Repositories with a ``requirements.txt``: tutorials and analyses of the field, and all that such a file can say."""

from __future__ import annotations

from tests.integration.corpus.case import PINNED, Case

_PLOTTING = {
    "plotting/pyproject.toml": """\
[build-system]
requires = ["flit_core>=3.9"]
build-backend = "flit_core.buildapi"

[project]
name = "plotting"
version = "0.3"
description = "Styles of the group"
dependencies = ["hepunits"]
""",
    "plotting/plotting/__init__.py": "from hepunits import GeV\n\nSCALE = 1 / GeV\n",
}

CASES = (
    Case(
        "scikit-hep-tutorial",
        {
            "requirements.txt": "# scikit-hep tutorial\nuproot\nawkward>=2\nhist[plot]\nvector\nmplhep\nparticle\n"
            "decaylanguage  # decay chains\npylhe\n",
            "README.md": "# Tutorial\n",
        },
        imports=("uproot", "awkward", "hist", "vector", "mplhep", "particle", "decaylanguage", "pylhe"),
        code="from particle import Particle\nassert abs(Particle.from_pdgid(23).mass - 91188) < 5",
    ),
    Case(
        "uproot-awkward-tutorial",
        {"binder/requirements.txt": "uproot>=5\nawkward>=2.5\nnumpy\nmatplotlib\nxrootd\nfsspec-xrootd\n"},
        imports=("uproot", "awkward", "fsspec_xrootd", "XRootD"),
        same_as="nothing-at-all",
    ),
    Case(  # cms-opendata-education/cms-nanoaod-uproot
        "cms-nanoaod-uproot",
        {
            "requirements.txt": "awkward==2.9.0\nmatplotlib==3.10.9\nnumpy==2.2.6\nuproot==5.7.4\n"
            "fsspec_xrootd==0.5.4\nxrootd\n"
        },
        imports=("uproot", "awkward", "coffea", "numba", "scipy", "XRootD"),
        versions={"numpy": "2.2.6", "awkward": "2.9.0", "uproot": "5.7.4", "matplotlib": "3.10.9"},
        code="import awkward as ak\nassert ak.sum(ak.Array([[1, 2], [], [3]])) == 6",
        replaced=("numpy", "awkward", "uproot", "matplotlib"),
        notes=("numpy",),
    ),
    Case(
        "pyhf-tutorial",
        {"requirements.txt": "pyhf[minuit,xmlio,contrib]>=0.7.6\ncabinetry>=0.6\nmatplotlib\n"},
        imports=("pyhf", "cabinetry", "iminuit"),
        code="import pyhf\n"
        "model = pyhf.simplemodels.uncorrelated_background([5.0], [50.0], [7.0])\n"
        "assert 0 < float(pyhf.infer.hypotest(1.0, [50.0] + model.config.auxdata, model)) < 1",
    ),
    Case(  # the fits of iminuit's and zfit's tutorials, without TensorFlow
        "fit-tutorial",
        {"requirements.txt": "iminuit>=2.25\nnumba-stats\nresample\njacobi\nhepstats\ntabulate\n"},
        imports=("iminuit", "numba_stats", "resample", "jacobi", "hepstats"),
        code="from iminuit import Minuit\nfit = Minuit(lambda x: (x - 3) ** 2, x=0)\nfit.migrad()\n"
        "assert abs(fit.values['x'] - 3) < 1e-3",
    ),
    Case(
        "generators",
        {"requirements.txt": "pyhepmc\nfastjet>=3.4\npylhe\n"},
        imports=("pyhepmc", "fastjet", "pylhe"),
    ),
    Case(  # iris-hep/analysis-grand-challenge, environment `latest` of its pixi.toml, without xgboost's 300 MB
        "agc-latest",
        {"binder/requirements.txt": "cabinetry>=0.6.0\nscikit-learn>=1.0\ncoffea>=2024.9.0\nservicex>=3.0.0\n"},
        imports=("cabinetry", "sklearn", "servicex", "coffea.nanoevents"),
    ),
    Case(  # iris-hep/analysis-grand-challenge, docs/event-plotting; coffea of then takes pkg_resources for granted
        "agc-event-plotting",
        {
            "requirements.txt": "awkward==1.10.3\ncoffea==0.7.21\nmatplotlib==3.7.1\nnumpy==1.23.5\nparticle==0.21.0\n"
            "uproot==4.1.6\nsetuptools<81\n",
            "runtime.txt": "python-3.11\n",
        },
        base="coffea-py311",
        imports=("awkward", "coffea", "uproot", "particle"),
        versions={"numpy": "1.23.5", "awkward": "1.10.3", "coffea": "0.7.21"},
        replaced=("awkward", "coffea", "dask", "distributed", "numpy", "uproot"),
        notes=("numpy", "dask"),
    ),
    Case(  # atlas-outreach-data-tools/notebooks-collection-opendata, its pip section: it solves, but with an old coffea
        "atlas-outreach",
        {
            "binder/requirements.txt": "coffea~=0.7.0\nawkward>=2.6.7\nuproot>=5.3.10\nhist>=2.8.0\nnumpy>=1.26.4\n"
            "uproot3\n",
            "binder/runtime.txt": "python-3.11\n",
        },
        base="coffea-py311",
        imports=("awkward", "uproot", "hist", "coffea"),
        versions={"coffea": "0.7.", "awkward": "2."},
        replaced=("coffea",),
    ),
    Case(
        "old-mplhep",
        {"requirements.txt": "mplhep==0.4.1\nparticle\n"},
        imports=("mplhep", "particle"),
        versions={"mplhep": "0.4.1"},
        replaced=("mplhep",),
    ),
    Case(
        "old-pydantic-takes-packages-away",
        {"requirements.txt": "pydantic<2\ntyping_extensions==4.12.2\n", "runtime.txt": "python-3.11\n"},
        base="coffea-py311",
        imports=("pydantic", "correctionlib"),
        versions={"pydantic": "1.10", "pydantic-core": "", "typing-extensions": "4.12.2"},
        replaced=("pydantic",),
    ),
    Case(
        "vector-pinned",
        {"requirements.txt": "vector==1.7.0\nhist==2.9.0\n"},
        imports=("vector", "hist", "dask_histogram"),
        versions={"vector": "1.7.0", "hist": "2.9.0"},
        replaced=("hist", "vector"),
    ),
    Case(
        "binder-hides-root",
        {
            "requirements.txt": "mplhep==0.4.1\n",
            "setup.py": "raise SystemExit('not to be run')\n",
            "binder/requirements.txt": PINNED,
        },
        imports=("particle",),
        versions={"mplhep": "1."},
    ),
    Case(
        "hidden-binder-directory",
        {"requirements.txt": "mplhep==0.4.1\n", ".binder/requirements.txt": "hepunits\n"},
        imports=("hepunits",),
        versions={"mplhep": "1."},
    ),
    Case(
        "included-and-constrained",
        {
            "requirements.txt": "-r envs/analysis.txt\n-c envs/constraints.txt\nparticle\n",
            "envs/analysis.txt": "-r plotting.txt\nhepunits\n",
            "envs/plotting.txt": "pylhe\n",
            "envs/constraints.txt": "particle<1.1\npylhe<2\nnothing-that-exists==1\n",
        },
        imports=("particle", "hepunits", "pylhe"),
        versions={"particle": "1.0.", "pylhe": "1."},
    ),
    Case(
        "hashed",
        {
            "requirements.txt": "--require-hashes\n"
            "attrs==26.1.0 \\\n"
            "    --hash=sha256:c647aa4a12dfbad9333ca4e71fe62ddc36f4e63b2d260a37a8b83d2f043ac309 \\\n"
            "    --hash=sha256:d03ceb89cb322a8fd706d4fb91940737b6642aa36998fe130a9bc96c985eff32\n"
            "    # via particle\n"
            "hepunits==2.4.7 \\\n"
            "    --hash=sha256:6b67e387dbffb579cf8b01892681c6a91440de71e18c7b7578f241324f591895 \\\n"
            "    --hash=sha256:dfbe9e9cdf265aeea1896352ca5eb50609e15d497a03c0466ba4a920763f6337\n"
            "particle==1.1.0 \\\n"
            "    --hash=sha256:3d570041e41c7ea623c1d1d8c5e698024b51201dba401b808fc9d9bff78e443e \\\n"
            "    --hash=sha256:bd55165de5754e08d7c9137d96badcda5540f8f6014dec9680c96b7782e6cd26\n"
        },
        imports=("particle",),
        versions={"particle": "1.1.0", "hepunits": "2.4.7"},
        same_as="binder-hides-root",
    ),
    Case(
        "markers-and-extras",
        {
            "requirements.txt": 'mplhep==0.4.1; python_version < "3.9"\nwinreg-helper; sys_platform == "win32"\n'
            'hepunits; python_version >= "3.11" and platform_machine == "x86_64"\n'
            'pyhf[xmlio] >= 0.7 ; implementation_name == "cpython"\n'
        },
        imports=("hepunits", "pyhf"),
        versions={"mplhep": "1.", "winreg-helper": ""},
    ),
    Case(
        "editable-src-layout",
        {
            "requirements.txt": "-e .[plots]\nhepunits\n",
            "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "dimuon"
version = "1.2.0"
dependencies = ["particle"]

[project.optional-dependencies]
plots = ["pylhe"]

[project.scripts]
dimuon = "dimuon.cli:main"
""",
            "src/dimuon/__init__.py": "from importlib.metadata import version\n\n__version__ = version('dimuon')\n",
            "src/dimuon/cli.py": "def main():\n    print('dimuon of', __file__)\n",
        },
        imports=("dimuon", "particle", "pylhe"),
        versions={"dimuon": "1.2.0"},
        code="import dimuon, subprocess\n"
        "assert dimuon.__file__ == '/srv/repo/src/dimuon/__init__.py', dimuon.__file__\n"
        "said = subprocess.run(['dimuon'], check=True, capture_output=True, text=True).stdout\n"
        "assert said == 'dimuon of /srv/repo/src/dimuon/cli.py\\n', said",
    ),
    Case(  # as CoffeaTeam's own binder/ does with ./coffea
        "editable-directory",
        {"binder/requirements.txt": "--editable ../plotting\ndistributed\nxxhash\n", **_PLOTTING},
        imports=("plotting", "hepunits"),
        code="import plotting\nassert plotting.__file__ == '/srv/repo/plotting/plotting/__init__.py'",
    ),
    Case(
        "local-directory",
        {"requirements.txt": "./plotting\n", **_PLOTTING},
        imports=("plotting", "hepunits"),
        versions={"plotting": "0.3"},
        same_as="editable-directory",
    ),
    Case(
        "vcs",
        {
            "requirements.txt": "git+{git}/units.git@v1#egg=units\n"
            "histories @ git+{git}/units.git@main#subdirectory=more\n"
        },
        imports=("units", "histories", "hepunits"),
        versions={"units": "1.0", "histories": "2.0"},
    ),
    Case(
        "source-distribution",
        {"requirements.txt": "docopt==0.6.2\nparticle\n"},
        imports=("docopt", "particle"),
        versions={"docopt": "0.6.2"},
    ),
    Case(
        "everything-pinned",
        {"requirements.txt": PINNED + "tabulate==0.10.0\n"},
        imports=("particle", "tabulate"),
        versions={"attrs": "26.1.0", "hepunits": "2.4.7", "particle": "1.1.0", "tabulate": "0.10.0"},
    ),
    Case(
        "runtime-py311",
        {"requirements.txt": "particle\n", "runtime.txt": "python-3.11\n"},
        base="coffea-py311",
        imports=("particle",),
        code="import sys\nassert sys.version_info[:2] == (3, 11)",
    ),
    Case(
        "runtime-py313",
        {"binder/requirements.txt": PINNED, "binder/runtime.txt": "python-3.13", "runtime.txt": "python-3.11"},
        imports=("particle",),
        code="import sys\nassert sys.version_info[:2] == (3, 13)",
        same_as="binder-hides-root",
    ),
    Case(
        "as-of",
        {
            "binder/requirements.txt": "particle\npylhe\n",
            "binder/casabinder.yaml": "as_of: 2025-06-01\n",
        },
        imports=("particle", "pylhe"),
        versions={"particle": "0.25"},
    ),
    Case(
        "chosen-base",
        {"binder/requirements.txt": "hepunits\n", "binder/casabinder.yaml": "base: coffea-py311\n"},
        base="coffea-py311",
        imports=("hepunits",),
        code="import sys\nassert sys.version_info[:2] == (3, 11)",
    ),
)
