"""Has JupyterHub look after its services every two seconds: one that died is started again that soon.

JupyterHub looks every 30 s, and has no setting for it (``jupyterhub.services.service.Service.start``). That long nobody
could launch anything after the launch service was restarted or had died.
"""

from __future__ import annotations

from jupyterhub.services import service
from traitlets import default

SECONDS = 2


class QuickServiceSpawner(service._ServiceSpawner):
    """Watches the process of a service."""

    @default("poll_interval")
    def _poll_interval(self) -> int:
        return SECONDS


def watch_closely() -> None:
    """Make it so for all services of this process's hub."""
    service._ServiceSpawner = QuickServiceSpawner
