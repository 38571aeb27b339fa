"""People's own tokens for git hosts, encrypted in the database.

What is stored is a Fernet message over the token, its owner and its host: whoever can write to the database but has
no secret can neither read a token nor give it to another owner or host.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Column, Double, String, Table, Text, UniqueConstraint, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from launcher.database import metadata, reading
from launcher.refusal import RefusedError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from launcher.security.keys import Keys

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9])?)(:[0-9]{1,5})?")
_TOKEN = re.compile(r"[!-~]{1,4096}")

credentials = Table(
    "credentials",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("owner", "host", name="one_token_per_host"),
)


class Vault:
    """Tokens, one per owner and host (``host[:port]``, in lower case). An id does not give its token away."""

    def __init__(self, engine: Engine, keys: Keys) -> None:
        self._engine = engine
        self._fernet = Fernet(base64.urlsafe_b64encode(keys.key("vault")))

    def put(self, owner: str, host: str, token: str, now: float) -> str:
        """Keep a token (``TOKEN`` or ``USER:TOKEN``) and return its id; one that the owner has for the host already is
        replaced, and the id stays.

        Raises :class:`RefusedError` (400) for a host or a token that can't be one.
        """
        host, token = host.strip().lower(), token.strip()
        if not _HOST.fullmatch(host):
            raise RefusedError("give the host as in the repository's URL, such as github.com or git.example.org:8443")
        if not _TOKEN.fullmatch(token) or token.startswith(":") or token.endswith(":"):
            raise RefusedError("a token is one line without spaces, TOKEN or USER:TOKEN")
        content = json.dumps({"owner": owner, "host": host, "token": token}).encode()
        row = {"id": secrets.token_hex(16), "owner": owner, "host": host, "created": now}
        row["token"] = self._fernet.encrypt(content).decode("ascii")
        with self._engine.begin() as connection:
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            new = insert(credentials).values(row)
            kept = new.on_conflict_do_update(
                index_elements=("owner", "host"), set_={"token": row["token"], "created": now}
            )
            return str(connection.execute(kept.returning(credentials.c.id)).scalar_one())

    def find(self, owner: str, host: str) -> str | None:
        """Return the id of the owner's token for a host."""
        wanted = select(credentials.c.id).where(credentials.c.owner == owner, credentials.c.host == host.lower())
        with reading(self._engine) as connection:
            return connection.execute(wanted).scalar()

    def reveal(self, credential: str) -> tuple[str, str]:
        """Return host and token; raise :class:`RefusedError` (404) when it is not there or not readable any more."""
        wanted = select(credentials.c.owner, credentials.c.host, credentials.c.token)
        with reading(self._engine) as connection:
            row = connection.execute(wanted.where(credentials.c.id == credential)).first()
        if row is None:
            raise RefusedError("the token for this repository was deleted; store one again", 404)
        try:
            content = json.loads(self._fernet.decrypt(row.token))
        except InvalidToken as error:
            raise RefusedError(f"the token for {row.host} can't be read any more; store it again", 404) from error
        if (content["owner"], content["host"]) != (row.owner, row.host):
            raise RefusedError(f"the token for {row.host} is not what was stored; store it again", 404)
        return str(row.host), str(content["token"])

    def list(self, owner: str) -> list[tuple[str, str, float]]:
        """Return id, host and time of every token of an owner, by host."""
        wanted = select(credentials.c.id, credentials.c.host, credentials.c.created)
        with reading(self._engine) as connection:
            rows = connection.execute(wanted.where(credentials.c.owner == owner).order_by(credentials.c.host))
            return [(row.id, row.host, row.created) for row in rows]

    def delete(self, owner: str, credential: str) -> bool:
        """Delete a token if it is the owner's; say whether it was."""
        mine = delete(credentials).where(credentials.c.id == credential, credentials.c.owner == owner)
        with self._engine.begin() as connection:
            return connection.execute(mine).rowcount > 0
