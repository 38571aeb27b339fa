"""The wheel reader against wheels that lie: some hundred mutations here, as long as wanted with ``scripts/fuzz``."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.wheels import mutate, read_as_layer, seeds, with_member

SEEDS = seeds()


def test_the_seeds_are_of_both_kinds() -> None:
    outcomes = [read_as_layer(seed) for seed in SEEDS]
    assert outcomes[0]
    assert 3 < sum(outcomes) < len(outcomes) - 10


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_mutations_are_refused_or_sound(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(12):
        read_as_layer(mutate(SEEDS[seed], chance))


@settings(max_examples=60)
@given(st.text(min_size=1, max_size=40), st.binary(max_size=50))
def test_any_member_name(name: str, content: bytes) -> None:
    try:
        wheel = with_member(name, content)
    except (UnicodeEncodeError, ValueError):
        return  # nothing that a zip can hold
    read_as_layer(wheel)


@settings(max_examples=60)
@given(st.binary(max_size=120))
def test_any_entry_points(text: bytes) -> None:
    read_as_layer(with_member("pkg-1.0.dist-info/entry_points.txt", b"[console_scripts]\n" + text))
