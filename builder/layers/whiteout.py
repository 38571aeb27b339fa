"""Finds the whiteouts that remove packages of a base image: few, and leaving nothing of them behind.

A layer removes a path of the layers below by an empty file ``.wh.<name>`` beside it; the whiteout of a directory
removes all that is in it (image specification, layer.md, "Whiteouts"). For every removed file the topmost directory
that holds nothing to keep is whited out, and the file itself if there is none.

Replacing mplhep 1.3.3 in an environment where another package has put a plugin into ``mplhep/styles``::

    removed                                  kept
    site-packages/mplhep/__init__.py         site-packages/mplhep/styles/extra.py
    site-packages/mplhep/fonts/a.otf         site-packages/numpy/__init__.py
    site-packages/mplhep/fonts/b.otf
    site-packages/mplhep-1.3.3.dist-info/METADATA
    site-packages/mplhep-1.3.3.dist-info/RECORD

    whiteouts
    site-packages/mplhep/__init__.py         a file: its directory holds something to keep
    site-packages/mplhep/fonts               everything in it is removed
    site-packages/mplhep-1.3.3.dist-info     likewise

A whiteout may not share a layer with new files at the same path: engines disagree on which of the two comes first.
The writer refuses that, so the new version goes into the layer above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.layers.archive import check_path, parents
from builder.layers.errors import LayerError
from builder.layers.layer import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable


def whiteouts(removed: Iterable[str], kept: Iterable[str], root: str = "srv/env") -> list[Entry]:
    """Return the whiteouts, sorted by path, that make ``removed`` disappear and leave ``kept`` as it is.

    Args:
        removed: the paths of the files of the packages to remove, relative to the image's root.
        kept: all other paths (of files, symlinks, or directories that are to stay though empty) below ``root``. A
            path that is also in ``removed`` stays.
        root: the directory that everything removed must lie in; neither it nor what is above it is ever removed.

    Raises:
        LayerError: a removed path is not below ``root``.
    """
    staying: set[str] = set()
    for path in kept:
        staying.add(path)
        staying.update(parents(path))
    found = set()
    for path in removed:
        check_path(path)
        if not path.startswith(f"{root}/"):
            raise LayerError(f"{path!r} is to be removed, but does not lie in the environment {root!r}")
        if path not in staying:
            free = [parent for parent in parents(path) if parent.startswith(f"{root}/") and parent not in staying]
            found.add(free[-1] if free else path)
    return [Entry(path, "whiteout", mode=0) for path in sorted(found)]
