"""Runs a composite action step by step as GitHub's runner does: inputs, expressions, environment files, outputs.

As much of the runner as ``action.yml`` uses: ``${{ inputs.x }}``, ``${{ runner.x }}``, ``${{ github.x }}`` and
``${{ steps.ID.outputs.x }}``, ``if`` with one comparison, ``env``, ``shell: bash`` (``bash --noprofile --norc -e -o
pipefail``), the files that ``GITHUB_OUTPUT`` and ``GITHUB_STEP_SUMMARY`` name. Steps that use other actions are noted
and not run. Source: https://docs.github.com/actions/reference/workflows-and-actions/metadata-syntax.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
_CONDITION = re.compile(r"\s*([\w.-]+)\s*(==|!=)\s*'([^']*)'\s*")


@dataclass
class ActionRun:
    """What a run of an action gave: the status of the last step, its outputs, the summary, all that was written."""

    status: int = 0
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""
    ran: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)


def run_action(
    action: Path, workspace: Path, scratch: Path, inputs: Mapping[str, str], environment: Mapping[str, str]
) -> ActionRun:
    """Run the steps of an ``action.yml`` in ``workspace`` until one fails."""
    document = yaml.safe_load(action.read_text(encoding="utf-8"))
    unknown = inputs.keys() - document["inputs"].keys()
    missing = {name for name, one in document["inputs"].items() if one.get("required")} - inputs.keys()
    if unknown or missing:
        raise ValueError(f"inputs that are unknown: {unknown}; missing: {missing}")
    stated = {name: str(inputs.get(name, one.get("default", ""))) for name, one in document["inputs"].items()}
    contexts: dict[str, str] = {f"inputs.{name}": value for name, value in stated.items()}
    contexts |= {"runner.temp": str(scratch), "runner.os": "Linux", "github.action_path": str(action.parent)}
    contexts["github.sha"] = environment["GITHUB_SHA"]
    run, summary = ActionRun(), scratch / "summary"
    summary.touch()
    for number, step in enumerate(document["runs"]["steps"]):
        if "if" in step and not _holds(step["if"], contexts):
            continue
        if "uses" in step:
            run.used.append(step["uses"])
            continue
        output = scratch / f"output-{number}"
        output.touch()
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        _run_step(step, workspace, {**environment, **files}, contexts, run)
        if "id" in step:
            written = dict(line.split("=", 1) for line in output.read_text().splitlines())
            contexts |= {f"steps.{step['id']}.outputs.{name}": value for name, value in written.items()}
        if run.status:
            break
    run.summary = summary.read_text()
    run.outputs = {name: _filled(one["value"], contexts) for name, one in document["outputs"].items()}
    return run


def _run_step(
    step: Mapping[str, Any],
    workspace: Path,
    environment: Mapping[str, str],
    contexts: Mapping[str, str],
    run: ActionRun,
) -> None:
    if step["shell"] != "bash":
        raise ValueError(f"the shell {step['shell']} is not known here")
    script = _filled(step["run"], contexts)
    own = {name: _filled(str(value), contexts) for name, value in step.get("env", {}).items()}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script],
        cwd=workspace,
        env={**environment, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=400,
    )
    run.ran.append(step["name"])
    run.status = done.returncode
    run.log += done.stdout


def _filled(text: str, contexts: Mapping[str, str]) -> str:
    """Return a text with its expressions evaluated; outputs of steps that did not run are empty, as at GitHub."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return contexts.get(name, "") if name.startswith("steps.") else contexts[name]

    return _EXPRESSION.sub(value, text)


def _holds(condition: str, contexts: Mapping[str, str]) -> bool:
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(f"the condition {condition!r} is not understood here")
    return (contexts[match[1]] == match[3]) == (match[2] == "==")
