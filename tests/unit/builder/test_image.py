"""Configurations and manifests, as functions of layers and settings."""

import json

import pytest

from builder.image import CREATED, MOST_LAYERS, Image, ImageSettings, Parent, make_image
from builder.layers.layer import Layer
from registry_sync.errors import CasabinderError
from registry_sync.manifest import sha256_digest


def layer(number: int) -> Layer:
    digest = sha256_digest(b"blob %d" % number)
    return Layer(f"{number:064x}", f"layer {number}", digest, 100 + number, sha256_digest(b"tar %d" % number))


def config(image: Image) -> dict[str, object]:
    document = json.loads(image.config)
    assert isinstance(document, dict)
    return document


BASE = make_image(
    Parent(),
    [layer(1)],
    ImageSettings(
        {"PATH": "/bin", "A": "x=y"}, {"base": "1"}, ("/init",), ("start",), "/srv", "1000:1000", ("8888/tcp",)
    ),
    {"note": "1"},
)
PARENT = Parent(BASE.manifest.layers, config(BASE))


def test_an_image_from_nothing() -> None:
    assert config(BASE) == {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": ["A=x=y", "PATH=/bin"],
            "Labels": {"base": "1"},
            "Entrypoint": ["/init"],
            "Cmd": ["start"],
            "WorkingDir": "/srv",
            "User": "1000:1000",
            "ExposedPorts": {"8888/tcp": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [layer(1).diff_id]},
        "history": [{"created": CREATED, "created_by": "casabinder: layer 1"}],
    }
    assert BASE.manifest.annotations == {"note": "1"}
    assert BASE.manifest.config.digest == sha256_digest(BASE.config)


def test_an_image_on_another_keeps_what_is_not_set() -> None:
    image = make_image(PARENT, [layer(2)], ImageSettings({"A": "2"}, {"mine": "2"}, command=()), {})
    document = config(image)
    assert document["config"] == {
        **json.loads(BASE.config)["config"],
        "Env": ["A=2", "PATH=/bin"],
        "Labels": {"base": "1", "mine": "2"},
        "Cmd": [],
    }
    assert document["rootfs"] == {"type": "layers", "diff_ids": [layer(1).diff_id, layer(2).diff_id]}
    assert [entry.digest for entry in image.manifest.layers] == [layer(1).digest, layer(2).digest]
    assert PARENT.config == config(BASE)  # nothing of the parent was changed


def test_a_parent_that_says_little() -> None:
    image = make_image(Parent((), {"config": None, "rootfs": None, "history": None}), [layer(1)], ImageSettings(), {})
    assert config(image)["config"] == {"Env": []}


def test_the_order_of_settings_does_not_matter() -> None:
    one = make_image(PARENT, [], ImageSettings({"A": "1", "B": "2"}, {"x": "1", "y": "2"}), {"m": "1", "n": "2"})
    two = make_image(PARENT, [], ImageSettings({"B": "2", "A": "1"}, {"y": "2", "x": "1"}), {"n": "2", "m": "1"})
    assert one.digest == two.digest


def test_engines_take_only_so_many_layers() -> None:
    layers = [layer(number) for number in range(MOST_LAYERS)]
    assert len(make_image(Parent(), layers, ImageSettings(), {}).manifest.layers) == MOST_LAYERS
    with pytest.raises(CasabinderError, match="the image would have 121 layers"):
        make_image(PARENT, layers, ImageSettings(), {})
