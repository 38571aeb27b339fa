"""The state of a base: how old it is, and what Debian, the package index and its list of vulnerabilities have for it.

Everything is asked of those who know; what could not be asked is *not known*, with the reason, and never *none*.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from packaging.version import Version

from base_images.definition import ENVIRONMENTS
from base_images.rootfs import fetched_on
from launcher.bases.debian import DebianUpdate, debian_updates
from launcher.bases.ledger import Ledger
from launcher.bases.upgrade import newest_packages
from launcher.bases.vulnerabilities import Vulnerability, known_vulnerabilities
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from base_images.identity import Workshop
    from builder.base import Base
    from builder.locking.pylock import LockedPackage

_T = TypeVar("_T")
_SILENT = "the package index does not tell"


@dataclass(frozen=True)
class PythonUpdate:
    """A package of an environment that the index has in a newer version for the base's Python."""

    environment: str
    name: str
    version: str
    newest: str


@dataclass(frozen=True)
class BaseStatus:
    """What is known of a base. ``made`` is the day its Debian was fetched or it was released, ``""`` if unknown;
    a list is ``None`` where nobody could say, and ``not_known`` has the reason, by the list's name."""

    name: str
    image: str
    digest: str
    made: str = ""
    days: int | None = None
    debian: tuple[DebianUpdate, ...] | None = None
    python: tuple[PythonUpdate, ...] | None = None
    vulnerabilities: tuple[Vulnerability, ...] | None = None
    not_known: dict[str, str] = field(default_factory=dict)

    @property
    def stale(self) -> bool:
        """Whether there is anything newer or known against it, or it could not be found out."""
        silent = self.not_known.get("vulnerabilities") == _SILENT
        unknown = self.debian is None or self.python is None or (self.vulnerabilities is None and not silent)
        return unknown or bool(self.debian or self.python or self.vulnerabilities)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """Return it as people read it."""
        made = f"{self.made}, {_ago(self.days)}" if self.made else self._unknown("made")
        lines = [f"{self.name}  {self.image}", f"  made              {made}"]
        if self.debian is None:
            lines.append(f"  Debian            {self._unknown('debian')}")
        else:
            security = sum(one.security for one in self.debian)
            some = f"{len(self.debian)} newer, {security} of them security updates"
            lines.append(f"  Debian            {some if self.debian else 'nothing newer'}")
            lines += [
                f"    {one.name} {one.version} -> {one.newest}{'  security' if one.security else ''}"
                for one in sorted(self.debian, key=lambda one: (not one.security, one.name))
            ]
        if self.python is None:
            lines.append(f"  Python packages   {self._unknown('python')}")
        else:
            lines.append(f"  Python packages   {len(self.python)} newer in the index")
            lines += [f"    {one.name} {one.version} -> {one.newest}  ({one.environment})" for one in self.python]
        if self.vulnerabilities is None:
            lines.append(f"  vulnerabilities   {self._unknown('vulnerabilities')}")
        else:
            lines.append(f"  vulnerabilities   {len(self.vulnerabilities)} known to the package index")
            lines += [
                f"    {one.name} {one.version}  {', '.join(one.names)}"
                + (f", fixed in {', '.join(one.fixed_in)}" if one.fixed_in else "")
                for one in self.vulnerabilities
            ]
        return "\n".join(lines)

    def _unknown(self, what: str) -> str:
        return f"not known: {self.not_known[what]}"


def base_status(base: Base, image: str, workshop: Workshop, today: Callable[[], date]) -> BaseStatus:
    """Ask everybody of a base and return what is known."""
    not_known: dict[str, str] = {}

    def asked(what: str, ask: Callable[[], _T]) -> _T | None:
        try:
            return ask()
        except CasabinderError as error:
            not_known[what] = str(error)
            return None

    made = made_on(base, workshop)
    if not made:
        not_known["made"] = "no release says when, and its root file system was not fetched on this machine"
    packages = {name: _indexed(base, name) for name in ENVIRONMENTS}
    everything = [(name, version) for found in packages.values() for name, version in found.items()]
    debian = asked("debian", lambda: tuple(debian_updates(base, workshop.cache)))
    python = asked("python", lambda: tuple(_python_updates(base, packages, workshop)))
    vulnerable = asked("vulnerabilities", lambda: known_vulnerabilities(everything, workshop.index))
    if vulnerable is None:
        not_known.setdefault("vulnerabilities", _SILENT)
    return BaseStatus(
        base.inventory.name,
        image,
        base.digest,
        made,
        (today() - date.fromisoformat(made)).days if made else None,
        debian,
        python,
        None if vulnerable is None else tuple(vulnerable),
        not_known,
    )


def made_on(base: Base, workshop: Workshop) -> str:
    """Return the day a base was released, else the day its Debian was fetched, as far as this machine knows it."""
    release = Ledger(base.store, base.repository).history().find(base.digest)
    return release.at[:10] if release else fetched_on(workshop.cache / "rootfs", base.manifest.layers[0].digest)


def _ago(days: int | None) -> str:
    return {0: "today", 1: "yesterday"}.get(days or 0, f"{days} days ago")


def utc_today() -> date:
    """Return the day it is."""
    return datetime.now(UTC).date()


def _indexed(base: Base, environment: str) -> dict[str, str]:
    packages = getattr(base.inventory, environment).packages
    return {one.name: one.version for one in packages if one.url}


def _python_updates(base: Base, packages: dict[str, dict[str, str]], workshop: Workshop) -> list[PythonUpdate]:
    names = sorted({name for found in packages.values() for name in found})
    newest: dict[str, LockedPackage] = {
        one.name: one for one in newest_packages(names, base.inventory.target, workshop)
    }
    return [
        PythonUpdate(environment, name, version, newest[name].version)
        for environment, found in packages.items()
        for name, version in sorted(found.items())
        if name in newest and Version(newest[name].version) > Version(version)
    ]
