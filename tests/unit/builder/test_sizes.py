"""Sizes for people."""

import pytest

from builder.sizes import readable


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (36_400, "36 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (9_940_000, "9.9 MB"),
        (9_960_000, "10 MB"),
        (543_000_000, "543 MB"),
        (4_100_000_000, "4100 MB"),
    ],
)
def test_a_size_has_the_unit_that_suits_it(count: int, text: str) -> None:
    assert readable(count) == text
