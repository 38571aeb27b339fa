"""What cookies hold: encrypted and signed documents that only this service reads, each good for one cookie."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, cast

from cryptography.fernet import Fernet, InvalidToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.security.keys import Keys


class Sessions:
    """Seals and opens documents with the service's keys: any replica opens what another one sealed."""

    def __init__(self, keys: Keys) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(keys.key("visitor")))
        self._xsrf = keys.key("xsrf")

    def seal(self, name: str, document: Mapping[str, str]) -> str:
        """Return a document as the value of the cookie ``name``."""
        return self._fernet.encrypt(json.dumps({"cookie": name, **document}).encode()).decode("ascii")

    def open(self, name: str, value: str, seconds: int) -> dict[str, str] | None:
        """Return what :meth:`seal` was given for this cookie less than ``seconds`` ago, else ``None``."""
        try:
            document = cast("dict[str, str]", json.loads(self._fernet.decrypt(value.encode(), ttl=seconds)))
        except InvalidToken:
            return None
        return document if document.pop("cookie") == name else None

    def xsrf(self, owner: str) -> str:
        """Return the token that proves a change by ``owner`` to be meant (hex digits)."""
        return hmac.new(self._xsrf, owner.encode(), hashlib.sha256).hexdigest()[:32]
