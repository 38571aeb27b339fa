"""A small base as data: what its definition says, the wheels it needs, and where it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base_images.identity import Workshop
from base_images.site_additions import SiteAdditions
from builder.locking.resolver import PackageIndex
from tests.testbed.packages import built_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.packages import Index

DOCUMENT = """
name: small
title: Small
python: "3.13"
rootfs: {suite: trixie, packages: [python3.13]}
environment: {EXTRA: "1"}
protected: [core]
"""
WHEELS = (built_wheel("server-app"), built_wheel("core", "2.0"), built_wheel("plots", "1.0", requires=["core"]))


def write_definition(directory: Path, document: str, **requirements: str) -> Path:
    """Write a definition at ``directory``, without locks; ``requirements`` are by environment."""
    directory.mkdir(parents=True)
    (directory / "base.yaml").write_text(document)
    for name, text in requirements.items():
        (directory / f"{name}.in").write_text(text)
    return directory


def workshop(cache: Path, index: Index, additions: SiteAdditions | None = None) -> Workshop:
    """Return a workshop whose packages come from ``index``."""
    return Workshop(cache, PackageIndex(url=index.url, cache=cache / "uv"), additions or SiteAdditions())
