"""The repository's own projects: what is written for them, read back with ``importlib.metadata``."""

from __future__ import annotations

import importlib.metadata
import json
from typing import TYPE_CHECKING

from builder.base import InstalledPackage
from builder.editables import bytes_of, editable_entries, without_editables
from builder.environment.spec import EditableProject
from builder.layers.wheel import InstallTarget
from builder.locking.lock import Lock
from builder.locking.pylock import LockedPackage

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = EditableProject(
    name="My-Fit",
    version="1.0",
    directory="sub",
    import_paths=("sub/src",),
    entry_points="[console_scripts]\nfit = my_fit.cli:main\n",
    requires=("numpy>=2", 'mplhep; extra == "plots"'),
    extras=("plots",),
    requires_python=">=3.11",
    generated=(("sub/src/my_fit/_version.py", "version = '1.0'\n"),),
)


def test_what_is_installed(tmp_path: Path) -> None:
    target = InstallTarget("/srv/env", "3.13")
    for entry in editable_entries(PROJECT, target, "srv/repo"):
        path = tmp_path / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes_of(entry))
        path.chmod(entry.mode)
    site = tmp_path / target.purelib
    (found,) = importlib.metadata.distributions(path=[str(site)])
    assert (found.metadata["Name"], found.version, found.requires) == ("My-Fit", "1.0", list(PROJECT.requires))
    assert [(point.name, point.value) for point in found.entry_points] == [("fit", "my_fit.cli:main")]
    assert json.loads(found.read_text("direct_url.json") or "") == {
        "dir_info": {"editable": True},
        "url": "file:///srv/repo/sub",
    }
    assert (site / "_casabinder_my_fit.pth").read_text() == "/srv/repo/sub/src\n"
    script = tmp_path / "srv/env/bin/fit"
    assert script.read_text().startswith("#!/srv/env/bin/python")
    assert script.stat().st_mode & 0o111
    assert (tmp_path / "srv/repo/sub/src/my_fit/_version.py").exists()
    listed = {str(file) for file in found.files or ()}
    assert "../../../bin/fit" in listed
    assert all((site / name).exists() for name in listed)


def test_the_package_of_the_base_makes_way() -> None:
    old = InstalledPackage("my-fit", "0.9", "my_fit-0.9-py3-none-any.whl", "0" * 64)
    new = LockedPackage("my-fit", "0.8", "my_fit-0.8-py3-none-any.whl", "1" * 64)
    other = LockedPackage("other", "1", "other-1-py3-none-any.whl", "2" * 64)
    lock = Lock((new, other), added=(other,), replaced=((old.locked, new),))
    found = without_editables(lock, [PROJECT], {"my-fit": old})
    assert (found.packages, found.added, found.replaced, found.gone) == ((other,), (other,), (), (old.locked,))
    assert without_editables(lock, [], {"my-fit": old}) is lock
