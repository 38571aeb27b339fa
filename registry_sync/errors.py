"""The exceptions of casabinder: messages for the user, causes for the log."""

from __future__ import annotations


class CasabinderError(Exception):
    """Something a user or an admin can act on.

    The message is one sentence (or a few) for the user: what is wrong, where, and what to do. The technical cause,
    where there is one, is chained (``raise ... from cause``) and goes to the log.
    """


class InvalidReferenceError(CasabinderError):
    """A text that is not an image reference."""


class RegistryError(CasabinderError):
    """The registry could not be reached, or answered with a fault. Never raised for "there is no such thing"."""


class RegistryAuthError(RegistryError):
    """The registry refused the credentials, or wants some."""


class NotFoundError(CasabinderError):
    """The registry (or layout) answered clearly that it has no such manifest, blob or repository."""


class DigestMismatchError(RegistryError):
    """Bytes that do not have the digest or the size they were announced with."""
