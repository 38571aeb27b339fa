"""Who asks: a person logged in at the hub, a visitor with a cookie, or a program with an API token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Principal:
    """``name`` is the hub's user or service, or the id in a visitor's signed cookie; ``address`` is the client's IP."""

    kind: Literal["user", "visitor", "service"]
    name: str
    admin: bool = False
    address: str = ""

    @property
    def owner(self) -> str:
        """The name under which jobs, launches and credentials are kept."""
        return f"{self.kind}:{self.name}"

    @property
    def known(self) -> bool:
        """Whether the hub vouches for it: such a principal has no rate limit and may keep credentials."""
        return self.kind != "visitor"

    def may_see(self, owner: str, *, private: bool) -> bool:
        """Say whether something of ``owner`` may be shown."""
        return not private or self.owns(owner)

    def owns(self, owner: str) -> bool:
        """Say whether something of ``owner`` may be changed."""
        return self.admin or owner == self.owner
