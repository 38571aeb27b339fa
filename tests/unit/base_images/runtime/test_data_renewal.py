from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from casabinder_runtime.data_access import Credential
from casabinder_runtime.data_renewal import RETRY_SECONDS, Memory, Plan, after_command, decide, is_newer

HOUR = 3600.0
FILE = Path("/run/casabinder/data/bearer_token")
TOKEN = Credential("token", "one", "/tmp/bt_u1000", FILE, 0.0, HOUR)
PROXY = Credential("proxy", "chain", "/tmp/x509up_u1000", Path("/tmp/x509up_u1000"), 0.0, 12 * HOUR)


def said(plan: Plan) -> list[str]:
    return [notice.message for notice in plan.notices]


def done(plan: Plan) -> Memory:
    """Return what is remembered once workers have what was found."""
    return replace(plan.memory, pushed=plan.pushed)


def test_nothing_found_is_nothing_to_do() -> None:
    plan = decide([], Memory(), 0, with_command=False)
    assert (plan.renew, plan.push, plan.notices) == (False, False, ())


def test_what_is_found_is_pushed_once() -> None:
    plan = decide([TOKEN, PROXY], Memory(), 1, with_command=False)
    assert plan.push
    assert plan.pushed == {"token": TOKEN.digest, "proxy": PROXY.digest}
    assert not decide([TOKEN, PROXY], done(plan), 2, with_command=False).push
    assert decide([TOKEN, PROXY], plan.memory, 2, with_command=False).push, "workers did not get it yet"


def test_what_changes_is_pushed_again_and_what_vanishes_is_left() -> None:
    memory = done(decide([TOKEN, PROXY], Memory(), 1, with_command=False))
    assert decide([replace(TOKEN, content="two"), PROXY], memory, 2, with_command=False).push
    assert not decide([PROXY], memory, 2, with_command=False).push


@pytest.mark.parametrize(
    ("begins", "ends", "due"),
    [
        (0, HOUR, HOUR - 900),  # of a long life, a quarter of an hour before the end
        (0, 1200, 600),  # of a short one, at the half
        (None, HOUR, HOUR - 900),
    ],
)
def test_the_command_runs_when_a_good_part_is_left(begins: float | None, ends: float, due: float) -> None:
    token = replace(TOKEN, begins=begins, ends=ends)
    assert not decide([token], Memory(), due - 1, with_command=True).renew
    assert decide([token], Memory(), due, with_command=True).renew
    assert not decide([token], Memory(), due, with_command=False).renew


def test_the_command_runs_when_there_is_no_token() -> None:
    assert decide([PROXY], Memory(), 0, with_command=True).renew


def test_a_token_that_does_not_say_its_end_is_left_alone() -> None:
    opaque = replace(TOKEN, begins=None, ends=None)
    plan = decide([opaque], Memory(), 10 * HOUR, with_command=True)
    assert (plan.renew, plan.push, plan.notices) == (False, True, ())


def test_a_command_that_failed_waits() -> None:
    memory, notices = after_command(Memory(), "no ticket", 100)
    assert [notice.message for notice in notices] == ["The token for reading data could not be renewed: no ticket."]
    assert not decide([], memory, 100 + RETRY_SECONDS - 1, with_command=True).renew
    assert decide([], memory, 100 + RETRY_SECONDS, with_command=True).renew
    memory, notices = after_command(memory, "no ticket", 200)
    assert notices == (), "said once"
    memory, _ = after_command(memory, "", 300)
    assert after_command(memory, "no ticket", 400)[1] != (), "it had gone well in between"


def test_the_user_is_warned_once_and_told_once() -> None:
    memory = done(decide([TOKEN], Memory(), 0, with_command=False))
    plan = decide([TOKEN], memory, HOUR - 601, with_command=False)
    assert said(plan) == []
    plan = decide([TOKEN], plan.memory, HOUR - 540, with_command=False)
    assert said(plan) == [
        "The token for reading data (/tmp/bt_u1000) ends in 9 minutes, at 01:00 UTC, and nobody has renewed it: "
        "move a new one to /run/casabinder/data/bearer_token, and the workers get it at once."
    ]
    plan = decide([TOKEN], plan.memory, HOUR - 10, with_command=False)
    assert said(plan) == []
    plan = decide([TOKEN], plan.memory, HOUR, with_command=False)
    assert said(plan) == [
        "The token for reading data (/tmp/bt_u1000) ended at 01:00 UTC: "
        "move a new one to /run/casabinder/data/bearer_token, and the workers get it at once."
    ]
    assert said(decide([TOKEN], plan.memory, 2 * HOUR, with_command=False)) == []
    plan = decide([replace(TOKEN, content="two", ends=3 * HOUR)], plan.memory, 2 * HOUR, with_command=False)
    assert (said(plan), [notice.message for notice in plan.news]) == (
        [],
        ["There is a new token for reading data, and the workers have it."],
    )
    assert decide([replace(TOKEN, content="two", ends=3 * HOUR)], done(plan), 2 * HOUR, with_command=False).news == ()


def test_a_renewal_in_time_is_not_worth_a_word() -> None:
    memory = done(decide([TOKEN], Memory(), 0, with_command=False))
    plan = decide([replace(TOKEN, content="two", ends=2 * HOUR)], memory, HOUR - 700, with_command=False)
    assert (plan.push, plan.notices, plan.news) == (True, (), ())


def test_seconds_are_said_as_such() -> None:
    token = replace(TOKEN, ends=100.0)
    (sentence,) = said(decide([token], Memory(), 80, with_command=False))
    assert "ends in 20 s, at 00:01 UTC" in sentence


def test_a_proxy_is_watched_as_well() -> None:
    (sentence,) = said(decide([PROXY], Memory(), 12 * HOUR, with_command=False))
    assert sentence.startswith("The X.509 proxy for reading data (/tmp/x509up_u1000) ended at 12:00 UTC: move a new")


@pytest.mark.parametrize(
    ("token", "before", "newer"),
    [
        (None, None, False),
        (TOKEN, None, True),
        (None, TOKEN, False),
        (TOKEN, TOKEN, False),
        (replace(TOKEN, content="two"), TOKEN, False),
        (replace(TOKEN, content="two", ends=HOUR + 1), TOKEN, True),
        (replace(TOKEN, content="two", ends=None), TOKEN, True),
    ],
)
def test_what_is_better_than_before(token: Credential | None, before: Credential | None, newer: bool) -> None:
    assert is_newer(token, before) is newer
