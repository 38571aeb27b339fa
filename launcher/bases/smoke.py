"""What is tried in a base before it is released, and what came of it, as data.

=====================  ============================================================================================
``server``             JupyterLab answers and the Dask session runs, started by the image's own entry point
``kernel``             a notebook's kernel runs code
``dask``               the session's workers compute, in the environment that the notebook has
``xrootd``             a file of a stated address is read. Without an address only the client is tried: it loads, and
                       says of a port that nobody listens on that it can't connect
``ENV: import NAME``   what each package of the inventory lets others import, in both environments
``ENV: pip check``     every package has what it requires
=====================  ============================================================================================

Modules that can't be imported by nature are listed with their reasons: those of every base in :data:`NOT_IMPORTED`, a
definition's own in ``smoke-test.yaml`` beside it, which is no part of its identity.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from builder.documents import read_document
from launcher.ci.smoke import Check, SmokePlan
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.base import InstalledEnvironment

WORKERS = 2
EXCEPTIONS = "smoke-test.yaml"
ADDRESS = "CASABINDER_SMOKE_TEST_ADDRESS"

NOT_IMPORTED: Mapping[str, Mapping[str, str]] = {
    "analysis": {"classad3": "htcondor's wheel brings it without its compiled part"},
    "server": {"matplotlib_inline": "it is for kernels that have matplotlib"},
}
"""Modules by environment, each with the reason."""

KERNEL = "assert sum(range(7)) == 21\n"
DASK = f"""\
from casabinder_runtime import FacilityCluster
cluster = FacilityCluster()
cluster.wait_for_workers({WORKERS}, timeout=60)
client = cluster.get_client()
squares = client.gather(client.map(lambda number: number**2, range(100)))
assert sum(squares) == 328350, squares
assert set(cluster.worker_env_ids) == {{cluster.env_id}}, cluster.worker_env_ids
"""
XROOTD_CLIENT = """\
import os
os.environ.update(XRD_CONNECTIONRETRY="1", XRD_CONNECTIONWINDOW="2")
from XRootD import client
status, _ = client.FileSystem("root://127.0.0.1:1").ping(timeout=20)
assert not status.ok and "onnection" in status.message, status.message
"""
XROOTD_READ = f"""\
import os
from XRootD import client
from XRootD.client.flags import OpenFlags
file = client.File()
status, _ = file.open(os.environ["{ADDRESS}"], OpenFlags.READ, timeout=60)
assert status.ok, status.message
status, content = file.read(0, 1024, timeout=60)
assert status.ok and content, status.message or "the file is empty"
"""


class Exceptions(BaseModel):
    """``smoke-test.yaml``: modules that are not imported, by environment, each with the reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    not_imported: dict[Literal["analysis", "server"], dict[str, str]] = {}


@dataclass(frozen=True)
class BaseSmokeReport:
    """What came of it: all checks, the modules that were not imported and why, how long it took (seconds).

    ``xrootd`` says what was tried of XRootD: ``read`` a file, the ``client`` alone, or nothing (``""``).
    """

    checks: tuple[Check, ...]
    not_imported: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    xrootd: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and something was tried."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def faults(self) -> list[str]:
        """One sentence for each check that failed."""
        return [f"{check.name} failed: {_last_line(check.said)}" for check in self.checks if not check.passed]

    @property
    def summary(self) -> str:
        """How it went, in a few words."""
        failed = len(self.faults)
        return f"{failed} of {len(self.checks)} checks failed" if failed else f"passed, {len(self.checks)} checks"

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"passed": self.passed, **asdict(self)}


def read_exceptions(directory: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the modules that are not imported from the base of a definition, by environment, with the reasons."""
    file = directory / EXCEPTIONS
    own = read_document(file, Exceptions, "the exceptions").not_imported if file.exists() else {}
    return {name: {**known, **own.get(name, {})} for name, known in NOT_IMPORTED.items()}  # type: ignore[call-overload]


def import_plan(environment: InstalledEnvironment, exceptions: Mapping[str, str]) -> SmokePlan:
    """Return the plan of importing all that an environment has."""
    return SmokePlan(packages=tuple(sorted(environment.by_name)), left_out=tuple(sorted(exceptions)))


def checked_address(text: str) -> str:
    """Return the address of a file to read over XRootD.

    Raises :class:`CasabinderError` for one that can't be, and for one that holds what may be a secret.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("root", "roots", "xroot", "xroots") or not parts.hostname or not parts.path.strip("/"):
        raise CasabinderError(f"--xrootd {text!r} is no address of a file: give root://HOST[:PORT]//PATH")
    if parts.query or "@" in parts.netloc:
        raise CasabinderError("--xrootd: give an address without user and query, of a file that everybody may read")
    return text


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it did not say why"
