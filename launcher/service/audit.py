"""Who launched, built, cancelled and stopped what: a file of JSON lines that is only appended to.

The schema of a line is ``audit_event.json`` beside this module. ``provider``, ``spec``, ``ref``, ``status``,
``build_token``, ``origin`` and ``request_origin`` are those of BinderHub's launch event (version 6), so that what reads
its archive reads this; unlike BinderHub's there are also lines for what failed, and for more than launches.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from launcher.jobs.model import Job
    from launcher.security.principal import Principal

VERSION = 1
Action = Literal["build", "rebuild", "cancel", "launch", "stop", "resume"]

PROVIDER_NAMES: Mapping[str, str] = {
    "gh": "GitHub",
    "gist": "Gist",
    "gl": "GitLab",
    "git": "Git",
    "zenodo": "Zenodo",
    "figshare": "Figshare",
    "hydroshare": "Hydroshare",
    "dataverse": "Dataverse",
    "ckan": "CKAN",
}
"""The names that BinderHub's schema has for its providers."""


@dataclass(frozen=True)
class AuditEvent:
    """One thing that somebody did. Empty fields are left out of the line.

    ``owner`` and ``address`` say who; ``origin`` is the host that was asked, ``request_origin`` the web page that asked
    (the ``Origin`` header, else ``Sec-Fetch-Site``: a script has neither).
    """

    action: Action
    status: Literal["success", "failure"]
    owner: str
    address: str = ""
    provider: str = ""
    spec: str = ""
    repo: str = ""
    ref: str = ""
    build_token: bool = False
    origin: str = ""
    request_origin: str = ""
    job: str = ""
    launch: str = ""
    digest: str = ""
    env_id: str = ""
    message: str = ""

    def to_json(self, now: float) -> dict[str, Any]:
        """Return the line as a JSON object; ``now`` is seconds since 1970."""
        time = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        fields = {name: value for name, value in asdict(self).items() if value != ""}
        return {"version": VERSION, "time": time, **fields}


def about(
    action: Action,
    job: Job,
    principal: Principal,
    headers: Mapping[str, str],
    *,
    status: Literal["success", "failure"] = "success",
    build_token: bool = False,
    launch: str = "",
    message: str = "",
) -> AuditEvent:
    """Return what ``principal`` did to ``job`` with a request that had ``headers``."""
    asked = job.request.asked
    return AuditEvent(
        action=action,
        status=status,
        owner=principal.owner,
        address=principal.address,
        provider=PROVIDER_NAMES.get(asked.provider, asked.provider),
        spec=asked.spec,
        repo=job.request.repo,
        ref=job.request.commit,
        build_token=build_token,
        origin=headers.get("Host", ""),
        request_origin=headers.get("Origin") or headers.get("Sec-Fetch-Site", ""),
        job=job.id,
        launch=launch,
        digest=job.digest,
        env_id=job.env_id,
        message=message,
    )


class Audit:
    """Appends to a file, one write per line, so that lines of several processes do not mix.

    When the file was renamed or removed meanwhile, as logrotate does, another is begun under its name.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = file
        self._descriptor = self._open()
        self._lock = Lock()

    def write(self, event: AuditEvent, now: float) -> None:
        """Append a line."""
        line = json.dumps(event.to_json(now), ensure_ascii=False) + "\n"
        with self._lock:
            if not self._in_place():
                put_away, self._descriptor = self._descriptor, self._open()
                os.close(put_away)
            os.write(self._descriptor, line.encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        return os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _in_place(self) -> bool:
        """Whether the file that is open is still the one under the name."""
        try:
            return os.path.samestat(self._file.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False
