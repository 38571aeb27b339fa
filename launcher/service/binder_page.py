"""What a launch page tells its script: ``window.pageConfig``, as BinderHub's pages have it."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from launcher.service.binder import VERSION
from launcher.service.binder_links import raw_spec
from launcher.service.build_tokens import BuildTokens, origin_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.service.base import BaseHandler

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def page_config(handler: BaseHandler, provider: str = "", spec: str = "") -> dict[str, Any]:
    """Return the configuration of a page; of a launch page (with ``provider``) also its build token.

    ``spec`` is as it was sent: where the request is for ``/v2/<provider>/...``, it is taken from there.
    """
    services = handler.services
    config: dict[str, Any] = {
        "baseUrl": "/",
        "badgeBaseUrl": f"{handler.origin}/",
        "repoProviders": services.desk.providers(),
        "bannerText": services.site.service.banner,
        "binderVersion": VERSION,
    }
    if provider:
        prefix = f"/v2/{provider}/"
        sent = raw_spec(handler.request.path, prefix) if handler.request.path.startswith(prefix) else spec
        now = services.authentication.now()
        token = BuildTokens(services.keys).issue(provider, sent, origin_of(handler.request.headers), now)
        config["buildToken"] = token
    return config


def page_config_script(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the text of a page's first script, and the source that lets just it run: for ``script-src``.

    The text may stand in HTML as it is: nothing in it ends the element or begins a comment.
    """
    text = f"window.pageConfig = {json.dumps(config).translate(_ESCAPES)};"
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return text, f"'sha256-{digest}'"
