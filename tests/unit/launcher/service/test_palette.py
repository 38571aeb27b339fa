"""The colours of the style sheet, in both schemes, against WCAG 2.2's contrast ratios (AA)."""

from __future__ import annotations

import re

import pytest

from launcher.service.assets import DIRECTORY

TEXT, SHAPE = 4.5, 3.0
PAIRS = [
    *((ink, paper, TEXT) for ink in ("ink", "muted", "accent", "bad") for paper in ("paper", "panel", "sunk")),
    ("ink", "bad-paper", TEXT),
    ("bad", "bad-paper", TEXT),
    ("on-accent", "accent", TEXT),
    ("panel", "added", TEXT),
    *((shape, paper, SHAPE) for shape in ("edge", "good", "added") for paper in ("paper", "panel")),
]


def schemes() -> dict[str, dict[str, str]]:
    css = (DIRECTORY / "casabinder.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in blocks)
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_to_be_read_stands_out(scheme: str) -> None:
    colours = schemes()[scheme]
    wrong = [
        f"{front} on {back}: {contrast(colours[front], colours[back]):.2f}"
        for front, back, least in PAIRS
        if contrast(colours[front], colours[back]) < least
    ]
    assert wrong == []


def test_both_schemes_name_the_same_colours() -> None:
    light, dark = schemes().values()
    assert light.keys() == dark.keys()
