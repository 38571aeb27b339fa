"""Badges for READMEs and the icons of a launch page's tab, drawn as SVG."""

from __future__ import annotations

from html import escape

_COLOURS = {"building": "#b08800", "success": "#2e7d32", "fail": "#c62828"}
_SHAPE = "M7 0a7 7 0 1 0 7 7h-3a4 4 0 1 1-4-4z"
"""A ring with a gap: the C of casabinder, 14 units wide and high."""


BLUE = "#1565c0"


def badge(label: str, message: str, *, logo: bool = False, colour: str = BLUE) -> str:
    """Return a badge, 20 pixels high: ``label`` on grey, ``message`` on ``colour``, with the ring before it or not."""
    ring = 20 if logo else 0
    left, right = _width(label) + ring, _width(message)
    title = escape(f"{label}: {message}", quote=True)
    mark = f'<path transform="translate(5 3)" fill="#f5a623" d="{_SHAPE}"/>' if logo else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#4a4a4a"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>{mark}'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f"{_text(label, ring + (left - ring) / 2, left - ring - 10)}{_text(message, left + right / 2, right - 10)}"
        "</g></svg>"
    )


def icon(state: str = "") -> str:
    """Return the icon of a page's tab: of a build that runs (``building``), succeeded or failed, or of any page."""
    colour = _COLOURS.get(state, BLUE)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
        f'<path transform="translate(1 1)" fill="{colour}" d="{_SHAPE}"/></svg>'
    )


def _width(text: str) -> int:
    """Return the room in pixels for a text at 11 pixels, 5 at either side; ``textLength`` makes it fit exactly."""
    narrow = sum(character in "iljft|.,:' " for character in text)
    return round(10 + 4.0 * narrow + 7.0 * (len(text) - narrow))


def _text(text: str, middle: float, length: float) -> str:
    return f'<text x="{middle:g}" y="14" textLength="{length:g}">{escape(text)}</text>'
