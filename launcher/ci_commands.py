"""``casabinder ci``: runs in a CI job, and writes what came of it where this CI, people and programs look for it."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from launcher.ci.login import logged_in, without_passwords
from launcher.ci.outcome import dotenv_lines, github_annotation, github_lines, outputs
from launcher.ci.run import CiOptions, run_ci, withheld
from launcher.ci.summary import summary
from launcher.ci.surroundings import read_surroundings
from launcher.progress import choose_reporter
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from launcher.ci.outcome import Outcome
    from launcher.context import Context


def build_in_ci(context: Context, arguments: Namespace) -> int:
    """Build what is checked out, push it, test it, say what came of it; return the exit status."""
    surroundings = read_surroundings(os.environ)
    reporter = choose_reporter(json_logs=arguments.json_logs, quiet=arguments.quiet)
    options = CiOptions(
        repo=arguments.repo,
        ref=arguments.ref,
        url=arguments.url,
        subdirectory=arguments.subdir,
        base=arguments.base,
        as_of=arguments.as_of,
        rebuild=arguments.rebuild,
        git_token_file=arguments.git_token_file,
        tags=tuple(dict.fromkeys(arguments.tag)),
        push=arguments.push,
        layout=arguments.layout,
        smoke_test=arguments.smoke_test,
        service=arguments.service,
    )

    def say(line: str) -> None:
        if not arguments.quiet:
            print(line, file=sys.stderr)

    if withheld(options, surroundings):
        without_passwords(os.environ)
        outcome = run_ci(context, options, surroundings, reporter, say)
    else:
        with logged_in(os.environ, context.facility.registry):
            outcome = run_ci(context, options, surroundings, reporter, say)
    _tell(outcome, arguments)
    return outcome.status


def _tell(outcome: Outcome, arguments: Namespace) -> None:
    text, values = summary(outcome), outputs(outcome)
    if arguments.json:
        print(json.dumps(outcome.to_json(), indent=2))
    else:
        print(text, end="")
    if outcome.error:
        print(f"casabinder: {outcome.error}", file=sys.stderr)
    if arguments.summary:
        _write(arguments.summary, text)
    if arguments.outputs:
        _write(arguments.outputs, dotenv_lines(values))
    surroundings = outcome.surroundings
    if surroundings.summary:
        _write(surroundings.summary, text, append=True)
    if surroundings.outputs:
        _write(surroundings.outputs, github_lines(values), append=True)
    if surroundings.system == "github":
        if outcome.error:
            print(github_annotation("error", outcome.error), file=sys.stderr)
        elif outcome.smoke.state == "failed":
            print(github_annotation("error", "the image's smoke test failed; see the summary"), file=sys.stderr)
        elif outcome.unpushed:
            print(github_annotation("warning", f"the image was not pushed: {outcome.unpushed}"), file=sys.stderr)


def _write(path: Path, text: str, *, append: bool = False) -> None:
    try:
        with path.open("a" if append else "w", encoding="utf-8") as sink:
            sink.write(text)
    except OSError as error:
        raise CasabinderError(f"{path} can't be written: {error.strerror}") from error
