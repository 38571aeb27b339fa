"""Writes the summary of a run as Markdown: a pure function of its outcome, for a page of a CI or for a terminal.

What comes from the repository or the registry (names, versions, what tests said) is text and never markup: it is put
into code, where only backticks and, in tables, bars have a meaning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.sizes import readable
from launcher.service.badge_markup import markup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.attachments.difference import Difference, PackageChange
    from builder.record import ImageRecord
    from launcher.ci.outcome import Outcome

_MOST_PACKAGES = 100
_MARKS = {True: "passed", False: "**failed**"}


def summary(outcome: Outcome) -> str:
    """Return the Markdown of a run's outcome."""
    parts = [f"## casabinder: {_headline(outcome)}"]
    if outcome.error:
        parts.append(_plain(outcome.error))
    if outcome.unpushed and outcome.record:
        parts.append(f"Not pushed: {_plain(outcome.unpushed)}")
    if outcome.launch and outcome.record and not outcome.unpushed:
        parts.append(markup(outcome.launch, f"{outcome.service}/badge_logo.svg").markdown)
    if outcome.unlinked and outcome.record:
        parts.append(f"No launch badge: {_plain(outcome.unlinked)}")
    if outcome.record:
        parts += [
            _table(outcome, outcome.record),
            *_packages(outcome, outcome.record),
            *_change(outcome),
            *_smoke(outcome),
        ]
    return "\n\n".join(parts) + "\n"


def _headline(outcome: Outcome) -> str:
    if outcome.error:
        return "registry or network at fault" if outcome.fault else "build refused"
    if outcome.smoke.state == "failed":
        return "smoke test failed"
    if outcome.record and outcome.record.cached:
        return "was built before"
    return "built"


def _table(outcome: Outcome, record: ImageRecord) -> str:
    rows = [
        ("image", _code(record.image)),
        ("digest", _code(record.digest)),
        ("env_id", _code(record.env_id)),
        ("repository", f"{_code(outcome.url)} {_code(record.ref)}"),
        ("commit", _code(record.commit)),
        ("base", f"{_code(record.base.name)} (Python {_plain(record.base.python)})"),
        ("size", f"{readable(record.bytes['total'])}, {readable(record.bytes['new'])} of it above the base"),
        (
            "written" if outcome.unpushed else "uploaded",
            f"{readable(record.bytes['uploaded'])} in {record.seconds.get('total', 0.0):.1f} s",
        ),
    ]
    if outcome.tags:
        rows.append(("tags", ", ".join(_code(tag) for tag in outcome.tags)))
    lines = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines])


def _packages(outcome: Outcome, record: ImageRecord) -> list[str]:
    counts = record.packages
    heading = "### Packages"
    if outcome.contents is None or not outcome.contents.base_digest:
        return [heading, "Not looked at: the image was made by its own Dockerfile."]
    parts = [f"{counts['from_base']} from the base, {counts['added']} added, {counts['replaced']} replaced."]
    installed = outcome.contents.of("analysis").values()
    for word, origin in (("Added", "added"), ("Replacing the base's", "replaced")):
        names = [f"{one.name} {one.version}" for one in installed if one.origin == origin]
        if names:
            parts.append(f"{word}: {_listed(names)}")
    if outcome.contents.removed:
        parts.append(f"Removed: {_listed(outcome.contents.removed)}")
    return [heading, *parts]


def _change(outcome: Outcome) -> list[str]:
    if outcome.change is None:
        return ["### Since the last build of this branch", f"Not known: {_plain(outcome.unknown_change)}"]
    heading = f"### Since the last build of this branch, {_code(outcome.change.commit[:12])}"
    found = outcome.change.difference
    if found.equal:
        return [heading, "Nothing: it is the same image."]
    return [heading, "\n".join(f"- {line}" for line in _differences(found))]


def _differences(found: Difference) -> Iterable[str]:
    for name, pair in (("base", found.base), ("Python", found.python)):
        if pair:
            yield f"{name}: {_code(pair[0])} to {_code(pair[1])}"
    yield f"the repository's files: {'changed' if found.tree else 'the same'}"
    for change in found.packages[:_MOST_PACKAGES]:
        yield _package(change)
    if len(found.packages) > _MOST_PACKAGES:
        yield f"and {len(found.packages) - _MOST_PACKAGES} more packages"
    if not found.packages:
        yield "packages: the same"


def _package(change: PackageChange) -> str:
    where = "" if change.environment == "analysis" else f" ({change.environment})"
    if not change.before:
        return f"added {_code(f'{change.name} {change.after}')}{where}"
    if not change.after:
        return f"removed {_code(f'{change.name} {change.before}')}{where}"
    if change.before == change.after:
        return f"another artifact of {_code(f'{change.name} {change.after}')}{where}"
    return f"{_code(change.name)} from {_code(change.before)} to {_code(change.after)}{where}"


def _smoke(outcome: Outcome) -> list[str]:
    report = outcome.smoke
    parts = [f"### Smoke test: {report.state}"]
    if report.why:
        parts.append(_plain(report.why))
    if report.checks:
        parts.append("\n".join(f"- {_code(check.name)}: {_MARKS[check.passed]}" for check in report.checks))
    parts += [_block(check.said) for check in report.checks if not check.passed and check.said]
    return parts


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MOST_PACKAGES} more" if len(listed) > _MOST_PACKAGES else ""
    return ", ".join(_code(name) for name in listed[:_MOST_PACKAGES]) + more


def _code(text: str) -> str:
    """Return one line of code: nothing in it is markup."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _block(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    printable = "".join(character if character.isprintable() or character == "\n" else " " for character in text)
    return f"{fence}\n{printable}\n{fence}"


def _plain(text: str) -> str:
    """Return a sentence in which nothing is markup: characters that could begin some are escaped."""
    return re.sub(r"([\\`*_\[\]<>|#!])", r"\\\1", " ".join(text.split()))
