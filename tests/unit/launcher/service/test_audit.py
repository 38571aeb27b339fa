"""Audit lines fit their schema, and processes do not write into each other's."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema

from builder.providers.known import PROVIDERS
from launcher.jobs.model import Asked, BuildRequest, Job
from launcher.security.principal import Principal
from launcher.service.audit import PROVIDER_NAMES, Audit, about

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "1" * 40
JOB = Job(
    id="job",
    key="key",
    state="built",
    request=BuildRequest(Asked("gh", "lab/ana/main"), "https://github.com/lab/ana", "main", COMMIT),
    owner="visitor:1",
    created=0.0,
    digest=f"sha256:{'a' * 64}",
    env_id="0123456789abcdef",
)
SOMEBODY = Principal("visitor", "5f", address="192.0.2.1")


def check(line: dict[str, Any]) -> None:
    schema = json.loads(files("launcher.service").joinpath("audit_event.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(line)


def test_a_launch_has_binderhubs_fields() -> None:
    headers = {"Host": "hub.test", "Origin": "https://book.test"}
    line = about("launch", JOB, SOMEBODY, headers, build_token=True, launch="7").to_json(0.0)
    check(line)
    assert line == {
        "version": 1,
        "time": "1970-01-01T00:00:00.000+00:00",
        "action": "launch",
        "status": "success",
        "owner": "visitor:5f",
        "address": "192.0.2.1",
        "provider": "GitHub",
        "spec": "lab/ana/main",
        "repo": "https://github.com/lab/ana",
        "ref": COMMIT,
        "build_token": True,
        "origin": "hub.test",
        "request_origin": "https://book.test",
        "job": "job",
        "launch": "7",
        "digest": f"sha256:{'a' * 64}",
        "env_id": "0123456789abcdef",
    }


def test_a_failure_says_why_and_a_browser_is_told_from_a_script() -> None:
    headers = {"Host": "hub.test", "Sec-Fetch-Site": "same-origin"}
    line = about("build", JOB, SOMEBODY, headers, status="failure", message="no such ref").to_json(1e9)
    check(line)
    assert line["request_origin"] == "same-origin"
    assert line["message"] == "no such ref"


def test_every_provider_has_a_name() -> None:
    assert set(PROVIDER_NAMES) == set(PROVIDERS)


def test_a_file_that_was_put_away_is_followed_by_another(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    audit, event = Audit(file), about("cancel", JOB, SOMEBODY, {})
    audit.write(event, 1.0)
    file.rename(tmp_path / "audit.jsonl.1")
    audit.write(event, 2.0)
    audit.write(event, 3.0)
    file.unlink()
    audit.write(event, 4.0)
    audit.close()
    times = [json.loads(line)["time"][17:19] for line in file.read_text(encoding="utf-8").splitlines()]
    assert times == ["04"]
    assert len((tmp_path / "audit.jsonl.1").read_text(encoding="utf-8").splitlines()) == 1
    assert file.stat().st_mode & 0o077 == 0


def test_lines_of_several_writers_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "service" / "audit.jsonl"
    writers = [Audit(file), Audit(file)]
    event = about("cancel", JOB, SOMEBODY, {}, message="x" * 3000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda count: writers[count % 2].write(event, float(count)), range(200)))
    for writer in writers:
        writer.close()
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 200
    check(lines[0])
    assert file.stat().st_mode & 0o077 == 0
