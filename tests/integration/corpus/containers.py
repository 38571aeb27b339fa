"""Repositories with steps that a container engine runs, or that run when the server starts.

They take over what repo2docker's own fixtures check (base/general, venv/apt-packages, venv/binder-dir, venv/postBuild,
venv/start, venv/usr-bin, dockerfile/simple), without conda and without node, which the bases do not have.
"""

from __future__ import annotations

from tests.integration.corpus.case import Case

CASES = (
    Case(  # repo2docker's base/general: user, home, and where programs are found
        "user-and-path",
        {"requirements.txt": "pytest\n", "verify.py": "def test_it():\n    assert True\n"},
        imports=("pytest",),
        code="""\
import os, pathlib, shutil, subprocess
assert (os.getuid(), os.getgid()) == (1000, 1000)
assert subprocess.run(["id", "-un"], capture_output=True, text=True).stdout == "jovyan\\n"
assert os.environ["HOME"] == "/home/jovyan"
home = pathlib.Path.home().stat()
assert (home.st_uid, home.st_gid) == (1000, 1000)
for place in ("/home/jovyan", "/srv/repo", "/tmp"):
    file = pathlib.Path(place, "written")
    file.write_text("x")
    file.unlink()
path = os.environ["PATH"].split(":")
assert path.index("/srv/env/bin") < path.index("/usr/bin"), path
assert {name: shutil.which(name) for name in ("python", "pip", "pytest")} == {
    name: f"/srv/env/bin/{name}" for name in ("python", "pip", "pytest")
}
for name in ("REPO_DIR", "NB_PYTHON_PREFIX", "KERNEL_PYTHON_PREFIX", "LANG", "SHELL"):
    assert os.environ.get(name), name
assert os.getcwd() == os.environ["REPO_DIR"] == "/srv/repo"
assert subprocess.run(["pytest", "-q", "verify.py"], cwd="/srv/repo").returncode == 0
""",
    ),
    Case(  # repo2docker's venv/start: the server and its kernels have what `start` exports
        "start-script",
        {
            "start": "#!/bin/bash\nexport STARTED_BY='a start script'\nexec \"$@\"\n",
            "requirements.txt": "particle\n",
        },
        executable=("start",),
        imports=("particle",),
        code="import os\nassert os.environ['STARTED_BY'] == 'a start script'",
    ),
    Case(
        "start-in-binder",
        {
            "start": '#!/bin/sh\nexport STARTED_BY=root\nexec "$@"\n',
            "binder/start": '#!/bin/sh\nexport STARTED_BY=binder\nexec "$@"\n',
            "binder/requirements.txt": "particle\n",
        },
        imports=("particle",),
        code="import os\nassert os.environ['STARTED_BY'] == 'binder'",
    ),
    Case(
        "post-build",
        {
            "postBuild": "#!/bin/bash\nset -e\nid -u > built.txt\npwd >> built.txt\npython -c 'import particle' \n"
            "mkdir -p $HOME/.config && echo yes > $HOME/.config/built\nwhich -a python | head -1 >> built.txt\n",
            "requirements.txt": "particle\n",
        },
        executable=("postBuild",),
        imports=("particle",),
        code="text = open('/srv/repo/built.txt').read()\n"
        "assert text == '1000\\n/srv/repo\\n/srv/env/bin/python\\n', text\n"
        "assert open('/home/jovyan/.config/built').read() == 'yes\\n'",
        reproducible=False,
    ),
    Case(  # repo2docker's venv/binder-dir and start/postBuild: all of them, and none of the root's
        "all-in-binder",
        {
            "binder/apt.txt": "# to look around with\n\ntree\nfiglet  # and to shout\n",
            "binder/postBuild": "#!/usr/bin/env python\nimport hepunits\nopen('made.txt', 'w').write('by python')\n",
            "binder/start": '#!/bin/bash\nexport FROM_START=1\nexec "$@"\n',
            "binder/requirements.txt": "hepunits\n",
            "apt.txt": "no-such-package-at-all\n",
            "postBuild": "#!/bin/sh\nexit 1\n",
        },
        executable=("binder/postBuild", "binder/start"),
        imports=("hepunits",),
        code="import os, shutil\nassert open('/srv/repo/made.txt').read() == 'by python'\n"
        "assert os.environ['FROM_START'] == '1' and shutil.which('tree') and shutil.which('figlet')",
        reproducible=False,
    ),
    Case(
        "dockerfile",
        {
            "binder/Dockerfile": "FROM {base}\nUSER root\nRUN echo made > /opt/made\nENV MADE_BY=dockerfile\n"
            "USER 1000\nCOPY --chown=1000:1000 . /srv/repo\n",
            "requirements.txt": "mplhep==0.4.1\n",
            "Dockerfile": "FROM nothing-at-all\n",
            "module.py": "X = 1\n",
        },
        base="Dockerfile",
        imports=("uproot", "module"),
        versions={"mplhep": "1."},
        code="import os\nassert open('/opt/made').read() == 'made\\n' and os.environ['MADE_BY'] == 'dockerfile'",
        reproducible=False,
    ),
)
