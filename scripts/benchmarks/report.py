"""What was measured, and the tables made of it: medians, ratios, where casabinder's time went."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CASES = {
    "tiny": "a small delta, never seen",
    "big": "a 300 MB delta, never seen",
    "seen": "300 MB that the facility has seen, on a fresh builder",
    "other": "300 MB that this builder has seen, in another repository",
    "commit": "a new commit, same environment, same builder",
    "again": "the same commit once more",
}
METHODS = ("casabinder", "pip", "uv")


@dataclass(frozen=True)
class Sample:
    """One measurement. ``base`` is whether a container engine had the base before; bytes are of the registry."""

    case: str
    method: str
    base: str
    repeat: int
    seconds: float
    parts: dict[str, float]
    stored_bytes: int
    read_bytes: int
    requests: int
    load: float
    peak_resident_bytes: int = 0
    peak_private_bytes: int = 0
    layers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of the table: which samples stand for each side."""

    case: str
    base: str
    docker_case: str = ""

    def medians(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Return each method's median seconds."""
        found = {}
        for method in METHODS:
            case = self.case if method == "casabinder" else self.docker_case or self.case
            values = [
                sample.seconds
                for sample in samples
                if (sample.case, sample.method) == (case, method) and sample.base in (self.base, "never pulled")
            ]
            if values:
                found[method] = statistics.median(values)
        return found


ROWS = (
    Row("tiny", "present"),
    Row("tiny", "absent"),
    Row("big", "present"),
    Row("big", "absent"),
    # An engine that is fresh knows nothing of what others have built: for it, seen is never seen.
    Row("seen", "present", "big"),
    Row("seen", "absent", "big"),
    Row("other", "present"),
    Row("commit", "present"),
    Row("again", "present"),
)


def table(samples: Sequence[Sample]) -> str:
    """Return the medians and ratios as a Markdown table, and what the builder needed."""
    lines = ["| case | engine has the base | casabinder | pip | uv | pip / casabinder | uv / casabinder |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|")
    for row in ROWS:
        medians = row.medians(samples)
        ours = medians.get("casabinder")
        if not any(sample.case == row.case for sample in samples) or (
            row.base == "absent" and set(medians) == {"casabinder"}
        ):
            continue
        seconds = [f"{medians[method]:.2f} s" if method in medians else "-" for method in METHODS]
        ratios = [f"{medians[method] / ours:.1f}x" if ours and method in medians else "-" for method in METHODS[1:]]
        base = "yes" if row.base == "present" else "no"
        lines.append(f"| {CASES[row.case]} | {base} | {' | '.join([*seconds, *ratios])} |")
    return "\n".join(lines)


def phase_table(samples: Sequence[Sample]) -> str:
    """Return where casabinder's time went, its memory and its traffic, as a Markdown table."""
    phases = ("resolve", "fetch", "lock", "layers", "push", "total")
    lines = [f"| case | {' | '.join(phases)} | memory: resident / private | stored | read | requests |"]
    lines.append("|---" + "|--:" * (len(phases) + 4) + "|")
    for case in CASES:
        own = [sample for sample in samples if (sample.case, sample.method) == (case, "casabinder")]
        if not own:
            continue

        def median(value: Callable[[Sample], float], own: Sequence[Sample] = own) -> float:
            return statistics.median(value(sample) for sample in own)

        seconds = [f"{median(lambda s, p=phase: s.parts.get(p, 0.0)):.2f}" for phase in phases]  # type: ignore[misc]
        memory = [max(s.peak_resident_bytes for s in own) / 1e6, max(s.peak_private_bytes for s in own) / 1e6]
        traffic = [f"{median(lambda s: s.stored_bytes) / 1e6:.1f} MB", f"{median(lambda s: s.read_bytes) / 1e6:.1f} MB"]
        lines.append(
            f"| {CASES[case]} | {' | '.join(seconds)} | {memory[0]:.0f} / {memory[1]:.0f} MB | {' | '.join(traffic)} "
            f"| {median(lambda s: s.requests):.0f} |"
        )
    return "\n".join(lines)
