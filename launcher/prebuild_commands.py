"""``casabinder prebuild``: builds what a list names unless it is built, some at once, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from builder.providers.known import parse_spec
from launcher.service.prebuild_list import asked_for, read_list
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from launcher.context import Context
    from launcher.jobs.model import Asked
    from launcher.service.prebuild_list import Wanted


@dataclass(frozen=True)
class Target:
    """What one `casabinder build` is told; ``repo`` is a git URL, the path of a repository, or a record."""

    repo: str
    ref: str
    base: str = ""
    as_of: str = ""
    subdirectory: str = ""

    @classmethod
    def of(cls, asked: Asked, hosts: Mapping[str, str] | None) -> Target:
        """Return the target for what the launch page asks for."""
        spec = parse_spec(asked.provider, asked.spec, hosts)
        return cls(spec.url, spec.ref, asked.base, asked.as_of, asked.subdirectory)

    @property
    def options(self) -> list[str]:
        """The arguments of `casabinder build`."""
        stated = (("ref", self.ref), ("base", self.base), ("as-of", self.as_of), ("subdir", self.subdirectory))
        return [*(f"--{name}={value}" for name, value in stated if value), "--", self.repo]


@dataclass(frozen=True)
class Done:
    """How one went: ``message`` is the sentence of a failure."""

    repo: str
    ref: str
    state: Literal["built", "there", "failed"]
    seconds: float
    image: str = ""
    digest: str = ""
    message: str = ""


def prebuild(context: Context, arguments: Namespace) -> int:
    """Build all, print a table, and return 1 if any failed."""
    if arguments.list is None and not arguments.popular:
        raise CasabinderError("say what to build: the file of a list, or --popular N")
    entries = read_list(arguments.list) if arguments.list else ()
    hosts = context.facility.fetching.hosts
    targets = [target_of(entry, hosts) for entry in entries]
    targets += [Target.of(asked, hosts) for asked in _popular(context, arguments.popular)]
    targets = list(dict.fromkeys(targets))
    command = [sys.executable, "-m", "launcher.cli", "build", "--json", "--quiet"]
    stated = {name: getattr(arguments, name) for name in ("site", "registry")}
    command += [f"--{name}={value}" for name, value in stated.items() if value]
    if arguments.rebuild:
        command.append("--rebuild")
    done: dict[Target, Done] = {}
    with ThreadPoolExecutor(max(1, arguments.at_once)) as pool:
        running = {pool.submit(_build, command, target): target for target in targets}
        try:
            for number, future in enumerate(as_completed(running), 1):
                done[running[future]] = one = future.result()
                print(f"{number}/{len(targets)} {one.state:<7}{one.repo} {one.ref}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # those that run were told by the terminal as well
            raise
    ordered = [done[target] for target in targets]
    if arguments.json:
        print(json.dumps([asdict(one) for one in ordered], indent=2))
    else:
        print(table(ordered))
    return 1 if any(one.state == "failed" for one in ordered) else 0


def target_of(wanted: Wanted, hosts: Mapping[str, str] | None) -> Target:
    """Return the target of a list's entry; what exists as a directory is one, as for `casabinder build`."""
    if Path(wanted.repo).is_dir():
        return Target(wanted.repo, wanted.ref or "HEAD", wanted.base, wanted.as_of, wanted.subdirectory)
    return Target.of(asked_for(wanted, hosts), hosts)


def table(done: list[Done]) -> str:
    """Return the table that a person reads."""
    width = max((len(f"{one.repo} {one.ref}") for one in done), default=0)
    lines = [
        f"{one.state:<7} {one.seconds:7.1f} s  {f'{one.repo} {one.ref}':<{width}}  {one.image or one.message}".rstrip()
        for one in done
    ]
    counts = {state: sum(one.state == state for one in done) for state in ("built", "there", "failed")}
    return "\n".join([*lines, f"{counts['built']} built, {counts['there']} there already, {counts['failed']} failed"])


def _build(command: list[str], target: Target) -> Done:
    began = time.monotonic()
    ended = subprocess.run([*command, *target.options], capture_output=True, text=True, check=False)
    seconds = round(time.monotonic() - began, 1)
    try:
        record = json.loads(ended.stdout)
    except ValueError:
        record = {}
    if ended.returncode or "digest" not in record:
        said = ended.stderr.strip().splitlines() or [f"it ended with status {ended.returncode} and says nothing"]
        return Done(target.repo, target.ref, "failed", seconds, message=str(record.get("error") or said[-1]))
    state: Literal["built", "there"] = "there" if record["cached"] else "built"
    return Done(target.repo, target.ref, state, seconds, record["image"], record["digest"])


def _popular(context: Context, number: int) -> list[Asked]:
    if not number:
        return []
    from launcher.database import open_database
    from launcher.hub.launch_log import LaunchLog
    from launcher.service.popular import popular

    service, cache = context.site.service, context.facility.cache
    if service.database is None and not (cache / "service" / "casabinder.sqlite").exists():
        raise CasabinderError("--popular needs a launch log, and no launch service has run with this cache")
    engine = open_database(service, cache)
    try:
        return popular(LaunchLog(engine), number)
    finally:
        engine.dispose()
