"""How soon the hub sees that a service has died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyterhub.services import service

from launcher.hub.quick_services import SECONDS, QuickServiceSpawner, watch_closely

if TYPE_CHECKING:
    import pytest


def test_services_are_looked_after_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = service._ServiceSpawner
    monkeypatch.setattr(service, "_ServiceSpawner", stock)  # back to what it was, after the test
    watch_closely()
    assert service._ServiceSpawner is QuickServiceSpawner
    assert service._ServiceSpawner().poll_interval == SECONDS < stock().poll_interval
