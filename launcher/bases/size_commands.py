"""``casabinder base size``: what takes the room in bases."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from base_images.identity import base_identity, base_repository
from base_images.sizes import measure_base
from builder.base import load_base
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    from base_images.sizes import BaseSizes, Size
    from launcher.context import Context

_MOST_PACKAGES = 25


def size_bases(context: Context, arguments: Namespace) -> int:
    """Print for bases how many bytes their layers, packages and kinds of files take, compressed and unpacked."""
    measured = [_measure(context, name) for name in arguments.names or [context.site.base]]
    if arguments.json:
        print(json.dumps([asdict(sizes) for sizes in measured], indent=2))
        return 0
    for sizes in measured:
        _print(sizes)
    return 0


def _measure(context: Context, name: str) -> BaseSizes:
    facility = context.facility
    identity = base_identity(context.definition(name), context.workshop)
    repository = base_repository(facility.prefix, name)
    if facility.store.head_manifest(repository, identity) is None:
        raise CasabinderError(f"{name} is not built yet: run `casabinder base build {name}`")
    return measure_base(load_base(facility.store, facility.registry, repository, identity, facility.cache))


def _print(sizes: BaseSizes) -> None:
    print(f"{sizes.name}  {sizes.digest}")
    print(f"\n  {'compressed':>10} {'unpacked':>10} {'files':>7}")
    print(_line("in all", sizes.total))
    _table(f"layers ({len(sizes.layers)})", sizes.layers)
    _table("kinds of files", sizes.kinds.items())
    listed = list(sizes.packages.items())
    _table(f"the {_MOST_PACKAGES} largest of {len(listed)} packages", listed[:_MOST_PACKAGES])
    print("\n  more than once")
    print(_line("packages of the server that kernels have as well, in the same version", sizes.twice))
    for library, copies in sizes.copies.items():
        print(f"  {'':>10} {_mb(sum(copies.values()))} {len(copies):>7}  {library}")
    print(f"\n  symbols and debug information\n  {'':>10} {_mb(sizes.total.symbols)}")
    print()


def _table(title: str, rows: Iterable[tuple[str, Size]]) -> None:
    print(f"\n  {title}")
    for name, size in rows:
        print(_line(name, size))


def _line(name: str, size: Size) -> str:
    return f"  {_mb(size.compressed)} {_mb(size.unpacked)} {size.files:>7}  {name}"


def _mb(size: int) -> str:
    return f"{size / 1e6:>7.1f} MB"
