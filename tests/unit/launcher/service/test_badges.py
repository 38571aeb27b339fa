"""Badges and icons are well-formed SVG, whatever their text."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.service.badges import badge, icon
from launcher.service.status_badge import COLOURS

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=30)


@given(label=PRINTABLE, message=PRINTABLE, logo=st.booleans())
def test_a_badge_says_its_texts(label: str, message: str, logo: bool) -> None:
    root = ElementTree.fromstring(badge(label, message, logo=logo))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [label, message]
    assert root.get("aria-label") == f"{label}: {message}"


@pytest.mark.parametrize("logo", [False, True])
def test_its_halves_meet(logo: bool) -> None:
    root = ElementTree.fromstring(badge("launch", "casabinder", logo=logo))
    grey, blue = (element for element in root.iter("{http://www.w3.org/2000/svg}rect") if element.get("fill"))
    assert grey.get("width") == blue.get("x")
    assert int(grey.get("width", 0)) + int(blue.get("width", 0)) == int(root.get("width", 0))


def test_icons_differ_by_state() -> None:
    icons = {icon(state) for state in ("", "building", "success", "fail")}
    assert len(icons) == 4
    assert all(ElementTree.fromstring(text).tag.endswith("svg") for text in icons)


@pytest.mark.parametrize("word", COLOURS)
def test_a_status_badge_is_read_without_its_colour(word: str) -> None:
    root = ElementTree.fromstring(badge("casabinder", word, colour=COLOURS[word]))
    assert (root.get("role"), root.get("aria-label")) == ("img", f"casabinder: {word}")
    assert root.findtext("{http://www.w3.org/2000/svg}title") == f"casabinder: {word}"
    channels = [int(COLOURS[word][place : place + 2], 16) / 255 for place in (1, 3, 5)]
    light = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    assert 1.05 / (0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] + 0.05) >= 4.5
