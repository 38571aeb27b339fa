"""Turns an answer of an API that is not what its documentation says into one sentence."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.repository.spec import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def reading(archive: str) -> Iterator[None]:
    """Read an archive's answer inside."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise RepositoryError(
            f"the answer of {archive} can't be understood ({type(error).__name__}: {error})"
        ) from error
