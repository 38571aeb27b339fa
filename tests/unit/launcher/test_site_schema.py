"""The JSON schema of ``site.yaml``, and that its reference lists every key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, get_args, get_origin

from pydantic import BaseModel

from launcher.cli import main
from launcher.site_config import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "site-yaml.md"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys of a section and of those below it."""
    for name, entry in model.model_fields.items():
        one_of = get_args(entry.annotation) if get_origin(entry.annotation) is UnionType else (entry.annotation,)
        sections = [kind for kind in one_of if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if sections:
            yield from keys(sections[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_reference_lists_every_key_and_no_other() -> None:
    rows = [line for line in REFERENCE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    documented = [name for row in rows for name in re.findall(r"`([a-z_.]+)`", row.split("|")[1])]
    assert sorted(documented) == sorted(keys(Site))


def test_the_schema_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path))
    assert main(["site", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"registry", "service", "hub"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_a_site_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path))
    file = tmp_path / "other.yaml"
    file.write_text("service: {port: 8100}\n")
    assert main(["site", "check", "--site", str(file)]) == 0
    assert "127.0.0.1:8100" in capsys.readouterr().out
    file.write_text("service: {prot: 8100}\n")
    assert main(["site", "check", "--site", str(file)]) == 1
    assert "service.prot" in capsys.readouterr().err


def test_a_site_is_told_whose_workers_its_pool_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASABINDER_CACHE", str(tmp_path))
    file = tmp_path / "site.yaml"
    pool = "kind: htcondor, collector: cm, schedd: s, trust_domain: d, signing_key: POOL, address: 192.0.2.7"
    file.write_text(f"pool: {{{pool}}}\n")
    assert main(["site", "check", "--site", str(file)]) == 0
    assert "of `casabinder launch` alone; `casabinder serve` would say: temporary servers" in capsys.readouterr().out
    file.write_text(f"pool: {{{pool}, user: facility}}\n")
    assert main(["site", "check", "--site", str(file)]) == 0
    assert "workers in the pool cm, which reach a server by host-port" in capsys.readouterr().out
