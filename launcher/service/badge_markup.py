"""A badge that links to a launch page, as READMEs have it: Markdown, reStructuredText and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Markup:
    """The address that is linked to, and an image with this link in three languages."""

    link: str
    markdown: str
    rest: str
    html: str


def markup(link: str, image: str, text: str = "Launch") -> Markup:
    """Return an image with a link around it, as the launch page offers it; ``text`` is for those who don't see it."""
    return Markup(
        link=link,
        markdown=f"[![{text}]({image})]({link})",
        rest=f".. image:: {image}\n   :alt: {text}\n   :target: {link}",
        html=f'<a href="{escape(link)}"><img src="{escape(image)}" alt="{escape(text)}"></a>',
    )
