"""Who may read a repository, and which commit a ref of it is just now: its host is asked, and nobody else decides.

A repository that answers without a token is public. One that does not is asked again with the principal's own token,
if the vault has one for its host; what only the token opens is private to its owner. A full commit id is an answer
that would need no question, so the question is asked for the sake of the access.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from builder.repository.checkout import named_commit, remote_refs, resolve_ref
from builder.repository.fetching import GitCredentials
from builder.repository.spec import COMMIT_ID, Commit, NotAllowedError, RepositoryError
from launcher.jobs.answers import Answers
from launcher.security.token_file import token_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.repository.fetching import Fetching
    from builder.repository.spec import RepoSpec
    from launcher.security.principal import Principal
    from launcher.security.vault import Vault

_QUESTIONS = 16
_FRESH_SECONDS = 5.0
_PUBLIC_SECONDS = 300.0
_MOST_PUBLIC = 10_000


@dataclass(frozen=True)
class Readable:
    """A commit of a repository that the principal may read, with the token ``credential`` if it is private."""

    commit: Commit
    credential: str = ""

    @property
    def private(self) -> bool:
        """Whether only the token opens it."""
        return bool(self.credential)


class Access:
    """Asks the hosts of repositories, 16 questions at a time, 4 of them to the same host.

    What they say holds for 5 s; that a repository is public, for 5 minutes.
    """

    def __init__(self, fetching: Fetching, vault: Vault, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetching = replace(fetching, local=False, credentials=None)
        self._vault = vault
        self._clock = clock
        self._pool = ThreadPoolExecutor(_QUESTIONS, "access")
        self._answers = Answers(self._pool, _FRESH_SECONDS, clock)
        self._public: dict[str, float] = {}

    async def resolve(self, spec: RepoSpec, principal: Principal) -> Readable:
        """Return the commit that ``spec.ref`` is now.

        Raises :class:`RepositoryError` when the principal can't read the repository or it has no such ref,
        :class:`NotAllowedError` when the site does not fetch it, :class:`UnreachableError` when its host is silent.
        """
        if spec.archive:
            return Readable(await self._answers.get(spec, lambda: resolve_ref(spec, self._fetching), of=spec.archive))
        where, host = spec.location, urlsplit(spec.public_url).netloc
        if COMMIT_ID.fullmatch(spec.ref) and self._public.get(where, 0.0) > self._clock():
            return Readable(named_commit(spec, {}))
        try:
            refs = await self._answers.get(where, lambda: remote_refs(spec, self._fetching), of=host)
        except NotAllowedError:
            raise
        except RepositoryError:
            credential = await self._credential(spec, principal)
            if not credential:
                raise
            refs = await self._answers.get((where, credential), lambda: self._refs_with(credential, spec), of=host)
            return Readable(named_commit(spec, refs), credential)
        self._remember(where)
        return Readable(named_commit(spec, refs))

    def close(self) -> None:
        """Ask nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _credential(self, spec: RepoSpec, principal: Principal) -> str:
        parts = urlsplit(spec.url)
        if not principal.known or parts.scheme not in ("https", "http"):
            return ""
        return await asyncio.to_thread(self._vault.find, principal.owner, parts.netloc) or ""

    def _refs_with(self, credential: str, spec: RepoSpec) -> Mapping[str, str]:
        host, token = self._vault.reveal(credential)
        with token_file(token) as file:
            return remote_refs(spec, replace(self._fetching, credentials=GitCredentials(file, host)))

    def _remember(self, where: str) -> None:
        while len(self._public) >= _MOST_PUBLIC:
            del self._public[next(iter(self._public))]
        self._public.pop(where, None)
        self._public[where] = self._clock() + _PUBLIC_SECONDS
