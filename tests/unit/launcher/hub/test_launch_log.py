from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from launcher.database import open_database
from launcher.hub.launch import Launch
from launcher.hub.launch_log import Entry, LaunchLog
from launcher.refusal import RefusedError
from launcher.site_config import Launches, Service
from tests.unit.launcher.hub.test_vouching import REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAUNCH = Launch(
    id="l1",
    owner="user:ann",
    user="ann",
    server="agc-1",
    state="starting",
    image=REQUEST.tag,
    digest=REQUEST.digest,
    env_id=REQUEST.env_id,
    repo=REQUEST.repo,
    ref=REQUEST.ref,
    commit=REQUEST.commit,
    provider="gh",
    spec="team/agc/main",
    created=100.0,
)
ENTRY = Entry(LAUNCH, REQUEST, private=False, bytes=5_000_000_000, seen=100.0)
FREE = Launches(per_user=0)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LaunchLog]:
    engine = open_database(Service(), tmp_path)
    yield LaunchLog(engine)
    engine.dispose()


def entry(number: int, *, now: float = 100.0, private: bool = False, **changes: object) -> Entry:
    """Return an entry of a server of its own."""
    launch = replace(LAUNCH, id=f"l{number}", server=f"agc-{number}", created=now, **changes)  # type: ignore[arg-type]
    return replace(ENTRY, launch=launch, seen=now, private=private)


def test_a_launch_is_kept_as_it_was(log: LaunchLog) -> None:
    kept, starting = log.claim(ENTRY, FREE)
    assert (kept, starting) == (ENTRY, True)
    assert log.get("l1") == ENTRY
    assert log.get("other") is None


def test_a_server_that_runs_is_not_started_twice_and_a_stopped_one_keeps_its_id(log: LaunchLog) -> None:
    log.claim(ENTRY, FREE)
    again = replace(ENTRY, launch=replace(LAUNCH, id="l2"), request=replace(REQUEST, id="r2"), seen=200.0)
    found, starting = log.claim(again, FREE)
    assert (found.launch.id, starting) == ("l1", False)
    log.change("l1", state="stopped", kept=True)
    found, starting = log.claim(again, FREE)
    assert (found.launch.id, found.launch.state, found.request.id, starting) == ("l1", "starting", "r2", True)
    (use,) = log.images("user:ann", 10)
    assert (use.launches, use.last_launched, use.bytes) == (3, 200.0, 5_000_000_000)


def test_servers_that_start_count_and_stopped_ones_do_not(log: LaunchLog) -> None:
    allowed = Launches(per_user=2)
    log.claim(entry(1), allowed)
    log.claim(entry(2), allowed)
    with pytest.raises(RefusedError):
        log.claim(entry(3), allowed)
    log.claim(entry(3, owner="user:bob", user="bob"), allowed)
    log.change("l1", state="stopped")
    log.claim(entry(4), allowed)


def test_replicas_together_do_not_start_more_than_allowed(tmp_path: Path) -> None:
    allowed, refused = Launches(total=3, per_user=0), []
    ready = threading.Barrier(8)

    def one(number: int) -> None:
        engine = open_database(Service(), tmp_path)
        ready.wait()
        try:
            LaunchLog(engine).claim(entry(number), allowed)
        except RefusedError:
            refused.append(number)
        engine.dispose()

    threads = [threading.Thread(target=one, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5


def test_a_change_leaves_what_was_stopped_alone(log: LaunchLog) -> None:
    log.claim(ENTRY, FREE)
    assert log.change("l1", but=("stopped",), state="ready")
    log.change("l1", state="stopped")
    assert not log.change("l1", but=("stopped",), state="ready")
    assert log.find(active=True) == []


def test_images_of_private_repositories_are_their_owners(log: LaunchLog) -> None:
    log.claim(entry(1, now=1.0), FREE)
    log.claim(entry(2, now=2.0, owner="user:bob", user="bob"), FREE)
    log.claim(entry(3, now=3.0, private=True, digest="sha256:secret"), FREE)
    (public,) = log.images("user:bob", 10)
    assert (public.shared_by, public.launches, public.last_launched) == (2, 2, 2.0)
    assert [use.digest for use in log.images("user:ann", 10)] == ["sha256:secret", REQUEST.digest]
    assert len(log.images("user:root", 10, everything=True)) == 2


def test_what_ended_long_ago_is_forgotten_unless_it_can_be_resumed(log: LaunchLog) -> None:
    ends: list[dict[str, Any]] = [{"state": "stopped"}, {"state": "stopped", "kept": True}, {"state": "ready"}]
    for number, values in enumerate(ends):
        log.claim(entry(number), FREE)
        log.change(f"l{number}", **values)
    assert log.purge(before=100.0) == 0
    assert log.purge(before=101.0) == 1
    assert {found.launch.id for found in log.find()} == {"l1", "l2"}
