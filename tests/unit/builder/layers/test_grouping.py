"""Grouping: every wheel in one layer, within the budget, whatever order the wheels come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.layers.errors import LayerError
from builder.layers.grouping import WheelSize, bucket, group, group_key, merge_entries
from builder.layers.layer import Entry

MB = 1_000_000
EXAMPLE = [
    WheelSize("hist", MB // 10, "1"),
    WheelSize("xgboost", 130 * MB, "2"),
    WheelSize("vector", MB // 5, "3"),
    WheelSize("awkward-cpp", 12 * MB // 10, "4"),
    WheelSize("scipy", 35 * MB, "5"),
    WheelSize("pylhe", MB // 10, "6"),
]


@pytest.mark.parametrize(
    ("budget", "layers"),
    [
        (1, ["awkward-cpp hist pylhe scipy vector xgboost"]),
        (2, ["xgboost", "awkward-cpp hist pylhe scipy vector"]),
        (3, ["xgboost", "scipy", "awkward-cpp hist pylhe vector"]),
        (4, ["xgboost", "scipy", "awkward-cpp", "hist pylhe vector"]),
        (5, ["xgboost", "scipy", "awkward-cpp", "hist pylhe", "vector"]),
        (9, ["xgboost", "scipy", "awkward-cpp", "hist pylhe", "vector"]),
    ],
)
def test_the_example_of_the_module(budget: int, layers: list[str]) -> None:
    assert [" ".join(wheel.name for wheel in layer) for layer in group(EXAMPLE, budget, alone=MB)] == layers


def test_large_wheels_may_use_the_whole_budget() -> None:
    large = [wheel for wheel in EXAMPLE if wheel.size > MB]
    assert [len(layer) for layer in group(large, 3, alone=MB)] == [1, 1, 1]


def test_no_wheels_and_no_budget() -> None:
    assert group([], 3) == []
    with pytest.raises(ValueError, match="at least one layer"):
        group(EXAMPLE, 0)


wheels = st.lists(
    st.builds(WheelSize, st.text("abc", min_size=1, max_size=4), st.integers(0, 100), st.text("01", max_size=2)),
    unique_by=lambda wheel: wheel.name,
)


@given(wheels, st.integers(1, 8), st.integers(0, 100), st.randoms(use_true_random=False))
def test_every_wheel_once_within_the_budget_in_any_order(
    found: list[WheelSize], budget: int, alone: int, chance: object
) -> None:
    layers = group(found, budget, alone)
    assert sorted(wheel.name for layer in layers for wheel in layer) == sorted(wheel.name for wheel in found)
    assert len(layers) <= budget
    assert all(layers)
    chance.shuffle(found)  # type: ignore[attr-defined]
    assert group(found, budget, alone) == layers


@given(wheels, st.text("abc", min_size=5, max_size=6), st.integers(0, 100))
def test_another_small_wheel_changes_one_layer_at_most(found: list[WheelSize], name: str, alone: int) -> None:
    before = group(found, 1000, alone)
    after = group([*found, WheelSize(name, max(0, alone - 1), "x")], 1000, alone)
    assert len(set(before) - set(after)) <= 1


@given(st.text(), st.sampled_from([2, 4, 8]))
def test_halving_the_buckets_keeps_together_what_was(name: str, buckets: int) -> None:
    assert bucket(name, buckets // 2) == bucket(name, buckets) % (buckets // 2)


def test_keys() -> None:
    one, two = EXAMPLE[:2]
    assert group_key([one]) == one.key
    assert group_key([one, two]) == group_key([two, one]) != group_key([one])
    assert len(group_key([one, two])) == 64


def test_merging_lets_the_last_by_name_win_and_directories_merge() -> None:
    first = [Entry("d", "directory"), Entry("d/x", "file", b"1"), Entry("d/y", "file", b"y")]
    second = [Entry("d", "directory"), Entry("d/x", "file", b"2")]
    merged = merge_entries([("b", second), ("a", first)])
    assert {entry.path: entry.content for entry in merged} == {"d": b"", "d/x": b"2", "d/y": b"y"}
    assert merged == merge_entries([("a", first), ("b", second)])


def test_merging_a_file_with_a_directory_is_refused() -> None:
    with pytest.raises(LayerError, match="'d' is a directory in a and a file in b"):
        merge_entries([("a", [Entry("d", "directory")]), ("b", [Entry("d", "file")])])
