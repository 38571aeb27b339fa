"""One repository of the corpus: its files, and what has to come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PINNED = "attrs==26.1.0\nhepunits==2.4.7\nparticle==1.1.0\n"
"""What several cases come to, each in its own way."""
_LOCKS = Path(__file__).parent / "locks"


@dataclass(frozen=True)
class Case:
    """A repository and what its image has to do.

    ``files`` may name places that are known only when the tests run: ``{index}`` (a package index), ``{git}`` (a git
    server), ``{base}`` (the default base by digest). ``locked`` are files that ``uv`` makes of the others first.

    The image is on ``base``. ``imports`` are modules for kernel and worker; ``versions`` are prefixes of what
    distributions have there (``""``: they are not there); ``code`` runs in the kernel and fails if it has to.
    ``replaced`` packages of the base are replaced, ``notes`` are parts of what the build says. ``workers`` is whether
    the image can be a Dask worker; ``reproducible`` what its record has to say. With ``refusal``, nothing is built and
    all of these are in the one sentence of the error.

    A case that is the ``same_as`` another has to come to the same environment, in its own way; that one is run.
    """

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    base: str = "coffea-py313"
    imports: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    replaced: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    executable: tuple[str, ...] = ()
    reproducible: bool = True
    workers: bool = True
    refusal: tuple[str, ...] = ()
    same_as: str = ""


def lock_file(name: str) -> str:
    """Return the text of a lock that a tool of that format has written."""
    return (_LOCKS / name).read_text(encoding="utf-8")
