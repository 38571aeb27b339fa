"""Decides what is to be done about the credentials for data now: renew, push to the workers, tell the user.

    what was found ─┐
    Memory ─────────┼──▶ decide() ──▶ Plan: renew? push? notices, and the next Memory
    the time ───────┘

Who renews what: a token is renewed by the site's command if there is one, else by whoever rewrites the file; a proxy
always by whoever rewrites the file. Times follow the life of a credential, which may be minutes or days:

    begins                      ends - a half        ends - a quarter        ends
    │ nothing to do             │ the command runs   │ the user is warned    │ the user is told
                                  at most 15 min       at most 10 min before

Every sentence is said once for each credential.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from casabinder_runtime.notices import Notice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from casabinder_runtime.data_access import Credential, Kind

RENEW_SECONDS = 900.0
WARN_SECONDS = 600.0
RETRY_SECONDS = 60.0  # until the command is run again after it failed
NOTICE = "data-access"
_NAMES: dict[Kind, str] = {"token": "token for reading data", "proxy": "X.509 proxy for reading data"}


@dataclass(frozen=True)
class Memory:
    """What was done so far: what workers have (by digest), what was said of which, when the command may run again."""

    pushed: Mapping[Kind, str] = field(default_factory=dict)
    told: frozenset[tuple[str, str]] = frozenset()
    not_before: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class Plan:
    """What is to be done; after ``renew`` it is decided anew.

    ``memory`` holds after ``notices`` were given, ``pushed`` is what it gets once workers have all that was found;
    ``news`` can be told then.
    """

    renew: bool
    memory: Memory
    notices: tuple[Notice, ...] = ()
    pushed: Mapping[Kind, str] = field(default_factory=dict)
    news: tuple[Notice, ...] = ()

    @property
    def push(self) -> bool:
        """Whether workers do not have it yet."""
        return self.pushed != self.memory.pushed


def decide(found: Sequence[Credential], memory: Memory, now: float, *, with_command: bool) -> Plan:
    """Return what to do at the time ``now``; a credential that vanished stays where it was pushed to."""
    tokens = [credential for credential in found if credential.kind == "token"]
    due = not tokens or _left(tokens[0], now) <= _margin(tokens[0], RENEW_SECONDS, 2)
    if with_command and due and now >= memory.not_before:
        return Plan(renew=True, memory=memory, pushed=memory.pushed)
    digests = {credential.kind: credential.digest for credential in found}
    notices, news = [], []
    told = set(memory.told)
    for credential in found:
        worry = _worry(credential, now)
        if worry and (worry, credential.digest) not in told:
            told.add((worry, credential.digest))
            notices.append(Notice(NOTICE, _sentence(credential, worry, now)))
        before = memory.pushed.get(credential.kind)
        if not worry and before not in (None, credential.digest) and _worried(memory, before):
            news.append(Notice(NOTICE, f"There is a new {_NAMES[credential.kind]}, and the workers have it."))
    return Plan(
        renew=False,
        memory=replace(memory, told=frozenset(told)),
        notices=tuple(notices),
        pushed={**memory.pushed, **digests},
        news=tuple(news),
    )


def after_command(memory: Memory, failure: str, now: float) -> tuple[Memory, tuple[Notice, ...]]:
    """Return what to remember of a run of the site's command, and what to say; ``failure`` is empty if it went well."""
    if not failure:
        return replace(memory, not_before=0.0, failure=""), ()
    known = replace(memory, not_before=now + RETRY_SECONDS, failure=failure)
    if failure == memory.failure:
        return known, ()
    return known, (Notice(NOTICE, f"The {_NAMES['token']} could not be renewed: {failure}."),)


def is_newer(token: Credential | None, before: Credential | None) -> bool:
    """Tell whether the command brought a token that is better than the one before."""
    if token is None or before is None:
        return token is not None
    return token.digest != before.digest and (token.ends is None or before.ends is None or token.ends > before.ends)


def _worry(credential: Credential, now: float) -> str:
    left = _left(credential, now)
    if left <= 0:
        return "ended"
    return "ending" if left <= _margin(credential, WARN_SECONDS, 4) else ""


def _worried(memory: Memory, digest: str | None) -> bool:
    return any(about == digest for _, about in memory.told)


def _left(credential: Credential, now: float) -> float:
    return float("inf") if credential.ends is None else credential.ends - now


def _margin(credential: Credential, most: float, part: int) -> float:
    if credential.begins is None or credential.ends is None:
        return most
    return min(most, max(0.0, credential.ends - credential.begins) / part)


def _sentence(credential: Credential, worry: str, now: float) -> str:
    assert credential.ends is not None  # noqa: S101  # one without an end gives no worry
    clock = datetime.fromtimestamp(credential.ends, UTC).strftime("%H:%M UTC")
    name, advice = _NAMES[credential.kind], f"move a new one to {credential.file}, and the workers get it at once"
    if worry == "ended":
        return f"The {name} ({credential.source}) ended at {clock}: {advice}."
    left = credential.ends - now
    span = f"{left / 60:.0f} minutes" if left >= 90 else f"{max(1.0, left):.0f} s"
    return f"The {name} ({credential.source}) ends in {span}, at {clock}, and nobody has renewed it: {advice}."
