"""What ``jupyterhub --config`` loads: the settings of :mod:`launcher.hub.configuration`, applied to its traits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from launcher.hub.configuration import hub_settings, with_secrets, with_surroundings
from launcher.hub.plan import ServePlan, secret_file
from launcher.security.keys import Keys
from launcher.site_config import cache_directory, load_site

if TYPE_CHECKING:
    from traitlets.config import Config


def configure(config: Config) -> None:
    """Set the traits of the facility that this process is started for."""
    site, cache = load_site(), cache_directory()
    secret = secret_file(cache, site.service.secret)
    settings = with_surroundings(hub_settings(site, ServePlan.read(cache), cache, secret), os.environ)
    for name, traits in with_secrets(settings, Keys.load(secret)).items():
        config[name].update(traits)


configure(get_config())  # type: ignore[name-defined]  # noqa: F821 - JupyterHub gives it to the file
