"""Definitions of bases: the catalogue's own, and what can be wrong in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from base_images.definition import CATALOGUE, Cuda, Pin, catalogue, load_definition, read_definition, write_lock
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT = 'name: mine\ntitle: Mine\npython: "3.13"\nrootfs: {suite: trixie, packages: [git]}\n'
EXTENDING = "name: mine\ntitle: Mine\nextends: coffea-py313\n"
LOCK = f"numpy==2.0 --hash=sha256:{'0' * 64}\n"


def written(tmp_path: Path, name: str = "mine", **files: str) -> Path:
    directory = tmp_path / name
    directory.mkdir(parents=True)
    contents = {"base.yaml": DOCUMENT, "server.in": "jupyterlab\n", "analysis.in": "numpy>=2  # why\n"}
    contents |= {name.replace("_", "."): text for name, text in files.items()}
    for file, text in contents.items():
        (directory / file).write_text(text)
    return directory


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_the_catalogue_is_consistent(name: str) -> None:
    definition = load_definition(name)
    for environment, lines in definition.requirements.items():
        pins = {pin.name: pin.version for pin in definition.pins(environment)}
        assert len(pins) == len(definition.pins(environment)), "what is below is not pinned again"
        for requirement in map(Requirement, lines):
            version = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True)
        own = [pin.name for pin in definition.locks[environment]]
        assert own == sorted(own)
    assert set(definition.document.protected) <= {pin.name for pin in definition.locks["analysis"]}
    assert {path.name for path in CATALOGUE.iterdir()} == set(catalogue())


def test_a_definition_is_read(tmp_path: Path) -> None:
    definition = read_definition(written(tmp_path, analysis_lock=f"# comment\n{LOCK}"))
    assert definition.name == "mine"
    assert definition.requirements == {"server": ("jupyterlab",), "analysis": ("numpy>=2",)}
    assert definition.locks == {"server": (), "analysis": (Pin("numpy", "2.0", "0" * 64),)}


def test_a_lock_that_is_written_is_read_again(tmp_path: Path) -> None:
    directory = written(tmp_path)
    pins = [Pin("b", "1.0", "1" * 64), Pin("a", "2.0", "2" * 64)]
    path = write_lock(directory, "server", pins)
    assert read_definition(directory).locks["server"] == tuple(sorted(pins, key=lambda pin: pin.name))
    assert "casabinder base lock mine" in path.read_text()


def test_the_identity_is_everything_that_decides_the_image(tmp_path: Path) -> None:
    first = read_definition(written(tmp_path / "1", analysis_lock=LOCK))
    same = read_definition(written(tmp_path / "2", analysis_lock=f"# another comment\n{LOCK}"))
    assert first.identity() == same.identity()
    assert len(first.identity()) == 12
    others = [
        read_definition(written(tmp_path / "3", analysis_lock=LOCK.replace("2.0", "2.1"))),
        read_definition(written(tmp_path / "4", analysis_lock=LOCK, analysis_in="numpy\n")),
        read_definition(written(tmp_path / "5", analysis_lock=LOCK, base_yaml=DOCUMENT.replace("git", "curl"))),
    ]
    names = {first.identity(), first.identity("runtime"), *(other.identity() for other in others)}
    assert len(names) == 5


def test_a_definition_that_extends_another(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue"
    below = written(catalogue, analysis_lock=LOCK)
    directory = catalogue / "wider"
    directory.mkdir()
    (directory / "base.yaml").write_text(
        'name: wider\ntitle: W\nextends: mine\ncuda: {version: "12.9", driver: "12.0"}\n'
    )
    (directory / "analysis.in").write_text("scipy\n")
    (directory / "analysis.lock").write_text(LOCK.replace("numpy", "scipy"))
    top = write_extending(catalogue / "widest", "wider")
    widest = read_definition(top, [catalogue])
    assert [one.name for one in widest.chain] == ["mine", "wider", "widest"]
    assert (widest.root.directory, widest.python) == (below, "3.13")
    assert widest.requirements == {"server": (), "analysis": ()}
    assert [pin.name for pin in widest.pins("analysis")] == ["numpy", "scipy"]
    assert widest.cuda == Cuda(version="12.9", driver="12.0")
    assert widest.document.image_labels == {"org.casabinder.base": "widest"}
    assert widest.parent is not None
    assert widest.parent.document.image_labels["org.casabinder.cuda-driver"] == "12.0"
    assert widest.root.cuda is None


def write_extending(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "base.yaml").write_text(f"name: {directory.name}\ntitle: T\nextends: {name}\n")
    return directory


def test_a_circle_is_refused(tmp_path: Path) -> None:
    write_extending(tmp_path / "one", "two")
    write_extending(tmp_path / "two", "one")
    with pytest.raises(
        CasabinderError, match=r"two/base.yaml: a base can't extend itself: one extends two extends one"
    ):
        load_definition("one", [tmp_path])


def test_a_sites_own_definition_wins(tmp_path: Path) -> None:
    written(tmp_path, "coffea-py313", base_yaml=DOCUMENT.replace("mine", "coffea-py313"))
    assert load_definition("coffea-py313", [CATALOGUE, tmp_path]).document.title == "Mine"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CasabinderError, match="no base image 'coffea'; the catalogue has coffea-"):
        load_definition("coffea")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"base_yaml": "name: ["}, r"base.yaml is not valid YAML"),
        ({"base_yaml": DOCUMENT.replace("mine", "other")}, "the name 'other' is not that of its directory 'mine'"),
        ({"base_yaml": DOCUMENT + "colour: red\n"}, "base.yaml: colour: Extra inputs are not permitted"),
        ({"base_yaml": DOCUMENT.replace("[git]", '["git; rm -rf /"]')}, r"base.yaml: rootfs.packages.0: "),
        ({"base_yaml": DOCUMENT.replace("[git]", '["--hook=x"]')}, r"base.yaml: rootfs.packages.0: "),
        ({"base_yaml": 'name: mine\ntitle: M\npython: "3.13"\n'}, "give one of `rootfs`, `start` and `extends`"),
        ({"base_yaml": "name: mine\ntitle: M\nrootfs: {suite: trixie, packages: []}\n"}, "give `python`, but not with"),
        ({"base_yaml": f"{EXTENDING}python: '3.13'\n"}, "give `python`, but not with `extends`"),
        (
            {"base_yaml": EXTENDING.replace("coffea-py313", "other")},
            "no base 'other' to extend; the catalogue has coffea",
        ),
        ({"base_yaml": EXTENDING + "labels: {org.casabinder.x: y}\n"}, "`org.casabinder.` are casabinder's own"),
        ({"base_yaml": EXTENDING + 'cuda: {version: "12", driver: "12.0"}\n'}, r"base.yaml: cuda.version: "),
        ({"base_yaml": DOCUMENT.replace('"3.13"', '"2.7"')}, r"base.yaml: python: "),
        ({"server_in": "a\nb c\n"}, "server.in, line 2: 'b c' is not a requirement"),
        ({"server_lock": "numpy==2\n"}, r"server.lock, line 1: 'numpy==2' is not `name==version --hash=sha256:...`"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(CasabinderError, match=message) as caught:
        read_definition(written(tmp_path, **files))
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    directory = written(tmp_path)
    (directory / "analysis.in").unlink()
    with pytest.raises(CasabinderError, match=r"analysis.in is missing"):
        read_definition(directory)


def test_whom_a_base_is_for(tmp_path: Path) -> None:
    text = f"{DOCUMENT}chosen_for: ['coffea<1']\ncuda: {{version: '12.9', driver: '12.0'}}\n"
    definition = read_definition(written(tmp_path / "1", base_yaml=text))
    assert definition.document.chosen_for == ("coffea<1",)
    assert definition.document.image_labels == {
        "org.casabinder.base": "mine",
        "org.casabinder.cuda": "12.9",
        "org.casabinder.cuda-driver": "12.0",
    }
    assert definition.identity() != read_definition(written(tmp_path / "2")).identity()
    with pytest.raises(CasabinderError, match=r"base.yaml: chosen_for: .*'Coffea 0.7' is no pattern of packages"):
        read_definition(written(tmp_path / "3", base_yaml=f"{DOCUMENT}chosen_for: [Coffea 0.7]\n"))
