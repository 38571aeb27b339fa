from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from builder.container.steps import announce, inserted, with_steps
from builder.environment.spec import ContainerSteps
from builder.identity import container_inputs
from builder.image import Image, ImageSettings, Parent, make_image
from builder.layers.layer import Layer
from builder.record import LayerFacts
from registry_sync.errors import CasabinderError
from registry_sync.manifest import sha256_digest

if TYPE_CHECKING:
    from builder.events import Progress
    from builder.plan import BuildPlan

NOTES = {"org.casabinder.env-id": "e"}


def layer(name: str) -> Layer:
    return Layer("", name, sha256_digest(f"blob {name}".encode()), len(name), sha256_digest(f"tar {name}".encode()))


def image_of(*names: str) -> Image:
    settings = ImageSettings({"PATH": "/bin"}, {"org.casabinder.env-id": "e"}, user="1000:1000")
    return make_image(Parent(), [layer(name) for name in names], settings, NOTES)


@pytest.mark.parametrize("above", range(5))
def test_a_layer_put_in_gives_the_image_that_all_layers_at_once_give(above: int) -> None:
    names = ["base", "wheels", "repository", "env.json"]
    made = inserted(image_of(*names), above, layer("apt"))
    at = len(names) - above
    assert made == image_of(*names[:at], "apt", *names[at:])
    assert json.loads(made.config)["history"][at]["created_by"] == "casabinder: apt"


def test_facts_are_told_in_the_order_of_the_layers() -> None:
    def fact(name: str) -> LayerFacts:
        return LayerFacts(sha256_digest(name.encode()), 1, name, "uploaded")

    planned = cast("BuildPlan", SimpleNamespace(above=[None, None]))
    facts = [fact(name) for name in ("base", "wheels", "repository", "env.json")]
    both = ContainerSteps(apt=("tree",), post_build="postBuild")
    told = with_steps(facts, planned, [fact("apt"), fact("post")], both)
    assert [one.what for one in told] == ["base", "wheels", "apt", "repository", "env.json", "post"]
    told = with_steps(facts, planned, [fact("post")], ContainerSteps(post_build="postBuild"))
    assert [one.what for one in told] == ["base", "wheels", "repository", "env.json", "post"]
    found = [fact(name) for name in ("R", "apt", "install.R", "post")]
    told = with_steps(facts, planned, found, replace(both, buildpack="r", install="install.R"))
    names = ["base", "wheels", "R", "apt", "repository", "env.json", "install.R", "post"]
    assert [one.what for one in told] == names
    told = with_steps(facts, planned, found[:1], ContainerSteps(buildpack="r"))
    assert [one.what for one in told] == ["base", "wheels", "R", "repository", "env.json"]


def test_what_an_engine_will_run_is_said_before() -> None:
    said: list[str] = []
    progress = cast("Progress", SimpleNamespace(say=said.append))
    announce(ContainerSteps(apt=("tree", "jq"), post_build="binder/postBuild"), progress)
    announce(ContainerSteps(dockerfile="Dockerfile"), progress)
    assert [line.partition(":")[0] for line in said] == ["apt.txt", "binder/postBuild", "Dockerfile"]
    assert "jq, tree as root" in said[0]
    with pytest.raises(CasabinderError, match="give the repository a Dockerfile"):
        announce(ContainerSteps(buildpack="nix"), progress)
    with pytest.raises(CasabinderError, match=r"there is no R 9\.1"):
        announce(ContainerSteps(buildpack="r", version="9.1"), progress)
    said.clear()
    announce(ContainerSteps(buildpack="r", version="4.4", install="install.R"), progress)
    assert [line.partition(":")[0] for line in said] == [
        "R 4.4 and RStudio, packages as of two days before the build",
        "packages of install.R",
    ]


def test_what_decides_the_outcome_of_steps() -> None:
    assert container_inputs(None, "t" * 40) == {}
    assert container_inputs(ContainerSteps(), "t" * 40) == {}
    apt = container_inputs(ContainerSteps(apt=("tree", "jq")), "t" * 40)
    assert apt == container_inputs(ContainerSteps(apt=("jq", "tree", "jq")), "u" * 40) == {"apt": ["jq", "tree"]}
    language = container_inputs(ContainerSteps(buildpack="r", version="4.4"), "t" * 40)
    assert language == {"buildpack": "r", "version": "4.4"}
    julia = ContainerSteps(buildpack="julia", project="Project.toml")
    assert container_inputs(julia, "t" * 40)["tree"] == "t" * 40
    post = ContainerSteps(apt=("jq",), post_build="postBuild")
    assert container_inputs(post, "t" * 40) != container_inputs(post, "u" * 40)
