"""``casabinder badge``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from builder.providers.known import parse_spec
from launcher.service.badge_markup import Markup, markup
from launcher.service.parameters import relative_path
from launcher.service.pasted import launch_page, understood, with_ref
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from launcher.context import Context

_OPTIONS = {"lab": "labpath", "file": "filepath", "url_path": "urlpath"}
"""The parameter of a launch link that an option sets."""


def print_badge(context: Context, arguments: Namespace) -> int:
    """Print the launch badge of a repository, and the badge that tells whether it is built."""
    service = (arguments.service or context.site.service.url or "").rstrip("/")
    if not service:
        raise CasabinderError("nobody knows where the launch page is: state `service.url` in site.yaml, or --service")
    if not service.startswith(("https://", "http://")) or not urlsplit(service).hostname:
        raise CasabinderError(f"--service {service} is no address of a launch service, such as https://hub.example.org")
    stated = {name: getattr(arguments, option) for option, name in _OPTIONS.items()}
    opens = {name: relative_path(path) for name, path in stated.items() if path}
    badges = make_badges(service, arguments.repo, arguments.ref, opens, context.facility.fetching.hosts)
    if arguments.json:
        print(json.dumps({name: asdict(badge) for name, badge in badges.items()}, indent=2))
        return 0
    launch = badges["launch"]
    print(launch.link)
    for title, name in (("Markdown", "markdown"), ("reStructuredText", "rest"), ("HTML", "html")):
        print(f"\n{title}\n")
        for badge in badges.values():
            print("\n".join(f"    {line}" for line in getattr(badge, name).splitlines()))
    return 0


def make_badges(
    service: str, text: str, ref: str, opens: Mapping[str, str], hosts: Mapping[str, str] | None = None
) -> dict[str, Markup]:
    """Return the badges of what a person names (:func:`understood`): ``launch`` and ``status``, which links the same.

    ``opens`` has at most one of ``labpath``, ``filepath`` and ``urlpath``, in place of what the text says.
    """
    named = understood(text, hosts)
    pasted = replace(named.pasted, spec=with_ref(named.pasted, ref))
    parse_spec(pasted.provider, pasted.spec, hosts)  # a link that leads nowhere is not for a README
    link = service + launch_page(pasted, opens or named.opens)
    status = f"{service}/badge/{pasted.provider}/{quote(pasted.spec, safe='/%:@+~')}.svg"
    return {"launch": markup(link, f"{service}/badge_logo.svg"), "status": markup(link, status, "Image")}
