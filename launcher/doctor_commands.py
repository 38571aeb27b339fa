"""``casabinder doctor``: whether the site's pool and registry can be used, a line for each finding."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from builder.container.engine import EngineError, docker
from launcher.pools.doctor import examine_pool, examine_registry
from launcher.pools.finding import Finding
from launcher.pools.site_pool import BatchPool

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from launcher.context import Context

_MARKS = {"ok": "ok", "failed": "FAILED", "skipped": "skipped"}


def examine_site(context: Context, arguments: Namespace) -> int:
    """Print the findings as they come and return 1 if something does not work."""
    findings = []
    for finding in _findings(context):
        findings.append(finding)
        if not arguments.json:
            print(f"{_MARKS[finding.state]:<8} {finding.check:<10} {finding.sentence}", flush=True)
    works = all(finding.state == "ok" for finding in findings)
    if arguments.json:
        print(json.dumps({"ok": works, "findings": [asdict(finding) for finding in findings]}, indent=2))
    return 0 if works else 1


def _findings(context: Context) -> Iterator[Finding]:
    if context.site.pool.kind == "htcondor":
        yield from examine_pool(BatchPool.of_site(context.site))
    else:
        yield _engine()
    yield examine_registry(context.facility.store)


def _engine() -> Finding:
    """Say whether the Docker Engine answers, in whose containers local workers run."""
    try:
        version = docker("version", "--format", "{{.Server.Version}}").strip()
    except EngineError as error:
        return Finding("engine", "failed", str(error))
    return Finding("engine", "ok", f"Docker Engine {version} answers; workers run in the notebooks' containers")
