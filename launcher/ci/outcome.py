"""What one run of ``casabinder ci`` came to, and the same for programs: JSON, GitHub's outputs, a dotenv file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.ci.smoke import SmokeReport

if TYPE_CHECKING:
    from builder.attachments.sbom import Contents
    from builder.record import ImageRecord
    from launcher.ci.change import Change
    from launcher.ci.surroundings import Surroundings

REFUSED, SMOKE_TEST_FAILED, FAULT = 1, 3, 4
"""Exit statuses: the build was refused; the image was built, and its smoke test failed; registry or host at fault."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to. ``record`` is ``None`` when nothing was built, and ``error`` says why.

    ``unpushed`` says why the image was not pushed (empty: it was). ``change`` is what differs from the last build of
    the branch; where there is none, ``unknown_change`` says why. ``tags`` were set; ``launch`` is the launch page's
    link and ``service`` the facility that it is at; ``unlinked`` says why there is no link to that facility.
    """

    surroundings: Surroundings
    url: str
    commit: str = ""
    record: ImageRecord | None = None
    contents: Contents | None = None
    unpushed: str = ""
    smoke: SmokeReport = field(default_factory=lambda: SmokeReport("skipped", why="nothing was built"))
    change: Change | None = None
    unknown_change: str = ""
    tags: tuple[str, ...] = ()
    service: str = ""
    launch: str = ""
    unlinked: str = ""
    error: str = ""
    fault: bool = False

    @property
    def status(self) -> int:
        """The exit status."""
        if self.error:
            return FAULT if self.fault else REFUSED
        return SMOKE_TEST_FAILED if self.smoke.state == "failed" else 0

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as a JSON object."""
        return {
            "status": self.status,
            "error": self.error,
            "url": self.url,
            "commit": self.commit,
            "pushed": self.record is not None and not self.unpushed,
            "unpushed": self.unpushed,
            "tags": list(self.tags),
            "launch": self.launch,
            "unlinked": self.unlinked,
            "smoke_test": {
                "state": self.smoke.state,
                "why": self.smoke.why,
                "checks": [vars(check) for check in self.smoke.checks],
            },
            "change": self.change
            and {
                "commit": self.change.commit,
                "digest": self.change.digest,
                **self.change.difference.to_json(),
            },
            "record": self.record and self.record.to_json(),
        }


def outputs(outcome: Outcome) -> dict[str, str]:
    """Return what later steps of a CI need, by names as GitHub's outputs have them. No value has a line break."""
    record = outcome.record
    values = {
        "image": record.image if record else "",
        "digest": record.digest if record else "",
        "env-id": record.env_id if record else "",
        "image-id": record.image_id if record else "",
        "commit": outcome.commit,
        "pushed": "true" if record and not outcome.unpushed else "false",
        "cached": "true" if record and record.cached else "false",
        "smoke-test": outcome.smoke.state,
        "changed": _changed(outcome),
        "launch-url": outcome.launch,
    }
    return {name: " ".join(value.splitlines()) for name, value in values.items()}


def github_lines(values: dict[str, str]) -> str:
    """Return the outputs as a step appends them to the file that ``GITHUB_OUTPUT`` names."""
    return "".join(f"{name}={value}\n" for name, value in values.items())


def dotenv_lines(values: dict[str, str]) -> str:
    """Return the outputs as variables (``CASABINDER_IMAGE=...``): GitLab's dotenv report, or for a shell to read."""
    return "".join(f"CASABINDER_{name.upper().replace('-', '_')}={value}\n" for name, value in values.items())


def github_annotation(kind: str, text: str) -> str:
    """Return the line that makes GitHub show ``text`` beside the run; ``kind`` is ``error`` or ``warning``."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{kind} title=casabinder::{escaped}"


def _changed(outcome: Outcome) -> str:
    if outcome.change is None:
        return "unknown"
    return "false" if outcome.change.difference.equal else "true"
