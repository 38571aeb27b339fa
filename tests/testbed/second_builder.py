"""Builds many repositories in a process of its own, told on standard input, and says the digests: another builder.

python -m tests.testbed.second_builder < question.json > answer.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.build import build
from builder.facility import BaseChoice, BaseOffer, Bases, Facility
from builder.locking.resolver import PackageIndex
from builder.repository.fetching import Fetching
from builder.repository.spec import RepoSpec
from registry_sync.client import RegistryClient
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping


def question(facility: Facility, bases: Bases, cache: Path, repositories: Mapping[str, Path]) -> dict[str, Any]:
    """Return what the process is told: where to build, on which bases, and the repositories by name."""
    return {
        "registry": facility.registry,
        "prefix": facility.prefix,
        "cache": str(cache),
        "index": [facility.index.url, str(facility.index.ca_bundle or "")],
        "private_addresses": facility.fetching.private_addresses,
        "bases": [
            [offer.name, offer.python, offer.choice.registry, offer.choice.repository, offer.choice.reference]
            for offer in bases.offers
        ],
        "stated": bases.stated,
        "repositories": {name: str(path) for name, path in repositories.items()},
    }


def answer(asked: Mapping[str, Any]) -> dict[str, str]:
    """Build everything and return the digests by name; the sentence of the error where there is none."""
    url, bundle = asked["index"]
    index = PackageIndex(url=url, ca_bundle=Path(bundle) if bundle else None)
    fetching = Fetching(private_addresses=asked["private_addresses"])
    offers = tuple(BaseOffer(name, python, BaseChoice(*rest)) for name, python, *rest in asked["bases"])
    bases = Bases(offers, stated=asked["stated"])
    digests = {}
    with RegistryClient(asked["registry"], credentials=None) as store:
        facility = Facility(store, asked["registry"], asked["prefix"], Path(asked["cache"]), index, fetching=fetching)
        for name, path in asked["repositories"].items():
            try:
                digests[name] = build(RepoSpec(path), bases, facility).digest
            except CasabinderError as error:
                digests[name] = str(error)
    return digests


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
