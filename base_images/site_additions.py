"""What a site adds to every base of the catalogue, as one small layer on top: certificates, files, settings, packages.

It is above all that the catalogue makes, so two sites share every layer of a base but these. A site that adds nothing
has the catalogue's own images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from base_images.addition import Addition
from base_images.definition import read_lock
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_images.definition import Definition
    from builder.layers.layer import Entry


@dataclass(frozen=True)
class SiteAdditions:
    """``packages`` are requirement lines for the analysis environment, ``locks`` the directory of their locks.

    ``files`` are what the image gets, ``environment`` plain settings, ``certificates`` PEM files to be trusted.
    """

    packages: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Entry, ...] = ()
    certificates: tuple[Path, ...] = ()
    locks: Path = Path("base-locks")

    def __bool__(self) -> bool:
        return bool(self.packages or self.environment or self.files or self.certificates)

    def lock_file(self, name: str) -> Path:
        """Return where the lock of the packages on the base ``name`` is."""
        return self.locks / f"{name}.lock"

    def on(self, definition: Definition) -> Addition:
        """Return what is added to the image of a definition. Raises :class:`CasabinderError` for a wrong file."""
        names = {"analysis": self.packages} if self.packages else {}
        files = {name: self.lock_file(definition.name) for name in names}
        return Addition(
            name=definition.name,
            title=definition.document.title,
            requirements=names,
            locks={name: read_lock(file) for name, file in files.items()},
            lock_files=files,
            lock_command=f"casabinder base lock --additions {definition.name}",
            environment=self.environment,
            files=self.files,
            certificates=tuple(self.certificate_texts()),
        )

    def certificate_texts(self) -> list[tuple[str, str]]:
        """Return (name, PEM text) of the certificates; raise :class:`CasabinderError` if one is not PEM."""
        texts = []
        for path in self.certificates:
            try:
                text = path.read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise CasabinderError(f"the CA certificate {path} can't be read as PEM text") from error
            if "-----BEGIN CERTIFICATE-----" not in text:
                raise CasabinderError(f"{path} holds no PEM certificate")
            texts.append((f"site-{hashlib.sha256(text.encode()).hexdigest()[:16]}", text))
        return sorted(set(texts))
