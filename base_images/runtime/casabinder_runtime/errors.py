"""The errors of the runtime: the message is one sentence for the user, the cause is for the log."""

from __future__ import annotations


class CasabinderError(Exception):
    """Something the user, the repository or the facility can put right; ``str()`` says what and how."""


class IdentityError(CasabinderError):
    """The image does not say (readably) which environment it holds."""


class PoolError(CasabinderError):
    """The pool that was asked for is unknown, misdescribed, or cannot give what was asked of it."""


class SessionError(CasabinderError):
    """There is no Dask session to talk to, or it failed to start."""


class WorkerError(CasabinderError):
    """This worker of a batch job can't work."""
