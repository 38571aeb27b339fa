"""The options of ``casabinder ci``, apart from the command so that reading them imports nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(ci: argparse.ArgumentParser) -> None:
    """Add what ``casabinder ci`` takes besides what every build does."""
    ci.add_argument(
        "--url", default="", metavar="URL", help="the repository's public address (default: as the CI says)"
    )
    ci.add_argument(
        "--tag", action="append", default=[], metavar="NAME", help="a further tag for the image, which may move"
    )
    pushing = ci.add_mutually_exclusive_group()
    pushing.add_argument(
        "--push",
        action="store_const",
        const="must",
        default="may",
        help="fail if it can't be pushed for want of a login",
    )
    pushing.add_argument(
        "--no-push", dest="push", action="store_const", const="never", help="build into image layouts on disk"
    )
    ci.add_argument(
        "--layout", type=Path, metavar="DIR", help="where they go (default: the directory unpushed of the cache)"
    )
    ci.add_argument(
        "--smoke-test",
        choices=("auto", "require", "off"),
        default="auto",
        help="try the image in a container: where there is an engine, in any case, or not (default: auto)",
    )
    ci.add_argument(
        "--service", default="", metavar="URL", help="the facility that the badge leads to (default: the site's)"
    )
    ci.add_argument("--summary", type=Path, metavar="FILE", help="write the summary (Markdown) into FILE too")
    ci.add_argument("--outputs", type=Path, metavar="FILE", help="write NAME=VALUE lines (dotenv) into FILE")
