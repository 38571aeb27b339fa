"""What channels name: asked once a minute, and never guessed."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from launcher.bases.channels import FRESH_SECONDS, ChannelMemory
from registry_sync.client import RegistryClient
from registry_sync.errors import RegistryError
from registry_sync.layout import LayoutStore
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest

if TYPE_CHECKING:
    from pathlib import Path

    from registry_sync.store import Store

REPOSITORY = "bases/tiny"


class Clock:
    """A clock that is set."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


def point(store: Store, tag: str, name: str) -> str:
    """Have a tag name an image and return its digest."""
    config = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
    store.put_blob(REPOSITORY, config, lambda: BytesIO(EMPTY_JSON))
    manifest = Manifest.image(config, [], annotations={"name": name})
    store.put_manifest(REPOSITORY, tag, manifest)
    return manifest.digest


def test_an_answer_is_good_for_a_minute(tmp_path: Path) -> None:
    store, clock = LayoutStore(tmp_path / "store"), Clock()
    memory = ChannelMemory(store, "here", tmp_path / "cache", clock)
    assert memory.digest(REPOSITORY, "stable") == ""
    first = point(store, "stable", "first")
    assert memory.digest(REPOSITORY, "stable") == "", "that there is none is an answer as well"
    clock.now += FRESH_SECONDS
    assert memory.digest(REPOSITORY, "stable") == first
    second = point(store, "stable", "second")
    clock.now += FRESH_SECONDS - 1
    another = ChannelMemory(store, "here", tmp_path / "cache", clock)
    assert another.digest(REPOSITORY, "stable") == first, "other commands know it too"
    clock.now += 1
    assert memory.digest(REPOSITORY, "stable") == second
    clock.now -= 3600  # the clock was set back
    third = point(store, "stable", "third")
    assert memory.digest(REPOSITORY, "stable") == third


def test_who_moves_a_channel_sees_it_at_once(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "store")
    memory = ChannelMemory(store, "here", tmp_path / "cache")
    point(store, "edge", "first")
    memory.digest(REPOSITORY, "edge")
    second = point(store, "edge", "second")
    memory.forget(REPOSITORY)
    assert memory.digest(REPOSITORY, "edge") == second


def test_a_dated_tag_is_asked_for_once(tmp_path: Path) -> None:
    store, clock = LayoutStore(tmp_path / "store"), Clock()
    memory = ChannelMemory(store, "here", tmp_path / "cache", clock)
    assert memory.digest(REPOSITORY, "2026.11.30") == ""
    digest = point(store, "2026.11.30", "first")
    assert memory.digest(REPOSITORY, "2026.11.30") == digest
    clock.now += 1e6
    silent = RegistryClient("127.0.0.1:9", sleep=lambda _: None)
    assert ChannelMemory(silent, "here", tmp_path / "cache", clock).digest(REPOSITORY, "2026.11.30") == digest


def test_a_silent_registry_is_not_one_without_releases(tmp_path: Path) -> None:
    clock = Clock()
    store = LayoutStore(tmp_path / "store")
    point(store, "stable", "first")
    ChannelMemory(store, "here", tmp_path / "cache", clock).digest(REPOSITORY, "stable")
    clock.now += FRESH_SECONDS
    with RegistryClient("127.0.0.1:9", sleep=lambda _: None) as silent, pytest.raises(RegistryError):
        ChannelMemory(silent, "here", tmp_path / "cache", clock).digest(REPOSITORY, "stable")


def test_a_damaged_file_is_asked_again(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "store")
    digest = point(store, "stable", "first")
    memory = ChannelMemory(store, "here", tmp_path / "cache")
    memory.digest(REPOSITORY, "stable")
    [file] = (tmp_path / "cache" / "channels").iterdir()
    for content in ("", "{}", "[]", '{"digest": "x", "at": "y"}'):
        file.write_text(content)
        assert memory.digest(REPOSITORY, "stable") == digest
