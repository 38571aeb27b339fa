"""Where nodes take an image from, and what a launch does while it is not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from launcher.pools.image_source import (
    Placement,
    SessionImage,
    Sighting,
    decide,
    find_placement,
    look,
    place,
    root_of,
)
from launcher.site_config import Pool
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = SessionImage("registry.example.org/casabinder/x:0123456789abcdef", "5ca1ab1e5ca1ab1e")
CVMFS = "/cvmfs/unpacked.example.org/{name}"
UNPACKED = "/cvmfs/unpacked.example.org/registry.example.org/casabinder/x:0123456789abcdef"


def pool(**more: Any) -> Pool:
    return Pool.model_validate({"universe": "container", "images": CVMFS, **more})


@pytest.mark.parametrize(
    ("pattern", "path", "root"),
    [
        (CVMFS, UNPACKED, "/cvmfs/unpacked.example.org"),
        ("/shared/sif/{image_id}.sif", "/shared/sif/0123456789abcdef.sif", "/shared/sif"),
        ("/shared/casabinder-{image_id}", "/shared/casabinder-0123456789abcdef", "/shared"),
        ("osdf:///site/{image_id}.sif", "osdf:///site/0123456789abcdef.sif", None),
        ("docker://{name}", f"docker://{IMAGE.name}", None),
    ],
)
def test_a_pattern_for_an_image(pattern: str, path: str, root: str | None) -> None:
    assert place(pattern, IMAGE.name) == path
    assert (None if root_of(pattern) is None else str(root_of(pattern))) == root


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            {"images": "oras://registry.example.org/{image_id}"},
            "can't be oras://, which HTCondor takes for a directory",
        ),
        ({"images": "/shared/sif/one.sif"}, "needs {name} or {image_id}"),
        ({"images": "/shared/{env}.sif"}, "can't have {env}: there are {name} and {image_id}"),
        ({"images": "https://sif.example.org/{image_id}"}, "must end in .sif"),
        ({"images": "http://sif.example.org/{image_id}.sif"}, "can't be http://"),
        ({"images": "sif/{image_id}.sif"}, "must be an absolute path"),
        ({"network": "nat"}, "nat is for the docker universe"),
    ],
)
def test_a_pattern_that_would_be_misunderstood(entry: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        pool(**entry)
    assert sentence in str(caught.value)


HERE = Sighting(True, "directory", "/cvmfs/unpacked.example.org/.flat/ab/abcd", IMAGE.env_id)


@pytest.mark.parametrize(
    ("more", "sighting", "waited", "found"),
    [
        ({}, Sighting(False), 0, Placement("container", UNPACKED)),
        ({}, HERE, 0, Placement("container", HERE.resolved)),
        ({}, Sighting(True, "file", "/sif/x.sif"), 0, Placement("container", "/sif/x.sif")),
        ({"images_seconds": 60}, Sighting(True), 59, None),
        ({"images_seconds": 60}, Sighting(True, "directory", "/x"), 59, None),  # it is being unpacked
        (
            {"images_seconds": 60, "images_fallback": "docker"},
            Sighting(True),
            60,
            Placement(
                "docker",
                IMAGE.name,
                f"{UNPACKED} is not there after 60 s, so workers are started with Docker from the registry",
            ),
        ),
    ],
)
def test_what_is_decided(more: dict[str, Any], sighting: Sighting, waited: float, found: Placement | None) -> None:
    assert decide(pool(**more), IMAGE, sighting, waited) == found


def test_an_image_that_does_not_come_and_another_one_in_its_place() -> None:
    with pytest.raises(CasabinderError, match=r"is not there: launch again once the image has been unpacked"):
        decide(pool(), IMAGE, Sighting(True), 0)
    with pytest.raises(
        CasabinderError, match=r"holds the environment 0badc0de0badc0de, and this session's is 5ca1ab1e"
    ):
        decide(pool(images_fallback="docker"), IMAGE, Sighting(True, "directory", "/x", "0badc0de0badc0de"), 0)


def unpack(directory: Path, env_id: str) -> None:
    """Leave what casabinder leaves in an image."""
    (directory / "etc" / "casabinder").mkdir(parents=True)
    (directory / "etc" / "casabinder" / "env.json").write_text(json.dumps({"env_id": env_id}))


def test_what_is_seen_of_a_directory(tmp_path: Path) -> None:
    unpack(tmp_path / ".flat" / "ab" / "abcd", "1")
    (tmp_path / "x:1").symlink_to(".flat/ab/abcd")
    (tmp_path / "x:2").mkdir()
    assert look(f"{tmp_path}/x:1", tmp_path) == Sighting(True, "directory", f"{tmp_path}/.flat/ab/abcd", "1")
    assert look(f"{tmp_path}/x:2", tmp_path) == Sighting(True, "directory", f"{tmp_path}/x:2")
    assert look(f"{tmp_path}/x:3", tmp_path) == Sighting(True)
    assert look(f"{tmp_path}/none/x:1", tmp_path / "none") == Sighting(False)


def test_links_are_followed_inside_of_the_root_alone(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    unpack(outside, "1")
    (root / "x:1").symlink_to(outside)
    assert look(f"{root}/x:1", root).resolved == f"{root}/x:1"
    (tmp_path / "link").symlink_to(root)
    unpack(root / "y", "1")
    (root / "y:1").symlink_to("y")
    assert look(f"{tmp_path}/link/y:1", tmp_path / "link").resolved == f"{tmp_path}/link/y"


def test_it_is_waited_for_and_used_when_it_is_there(tmp_path: Path) -> None:
    said: list[str] = []
    image = SessionImage("h/x:1", "e")

    def unpacked(_: float) -> None:
        unpack(tmp_path / "h" / "x:1", "e")

    site = pool(images=f"{tmp_path}/{{name}}", images_seconds=60)
    found = find_placement(site, image, said.append, clock=lambda: 0.0, sleep=unpacked)
    assert found == Placement("container", f"{tmp_path}/h/x:1")
    assert said == [f"{tmp_path}/h/x:1 is not there yet: it is waited for up to 60 s"]


def test_the_docker_universe_is_not_looked_into() -> None:
    assert find_placement(Pool(), IMAGE, lambda _: None) == Placement("docker", IMAGE.name)
