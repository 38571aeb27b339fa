from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

import pytest

from launcher.service.assets import DIRECTORY, assets

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = sorted((DIRECTORY.parent / "templates").glob("*.html"))
SCRIPTS = sorted(DIRECTORY.glob("*.js"))
ALL = [*TEMPLATES, *SCRIPTS, DIRECTORY / "casabinder.css"]
BUDGET = 100_000


def imported(name: str) -> set[str]:
    """Return a module and all that it imports."""
    text = assets().files[name].content.decode()
    found = {name}
    for other in re.findall(r'from "\./([a-z]+\.js)"', text):
        found |= imported(other)
    return found


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_page_is_light(template: Path) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (template, DIRECTORY.parent / "templates" / "layout.html")]
    named = set(re.findall(r"\{\{ static \}\}/([\w.-]+)", "".join(pages)))
    named |= {module for name in named if name.endswith(".js") for module in imported(name)}
    weight = sum(len(assets().files[name].content) for name in named) + sum(map(len, pages))
    assert weight + 8_000 < BUDGET  # with what is filled in


def test_what_is_compressed_is_the_same() -> None:
    for asset in assets().files.values():
        assert not asset.compressed or gzip.decompress(asset.compressed) == asset.content


def test_the_prefix_is_a_hash_over_everything() -> None:
    assert re.fullmatch(r"/static/[0-9a-f]{12}", assets().prefix)
    assert {"casabinder.css", "home.js", "mark.svg", "headings.woff2"} <= assets().files.keys()


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    # The address in the field's placeholder and those that names are shortened from are not fetched.
    assert not re.search(r"""(src|href|url\(|from|import)\s*[=(]?\s*["'](https?:)?//""", text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_style_and_no_handler_in_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text)
    assert re.findall(r"\|\s*safe", text) == (["| safe"] if path.name == "layout.html" else [])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_makes_no_markup_of_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
