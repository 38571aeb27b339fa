"""What Python's readers of archives raise for one that is damaged; some raise ``OSError`` or ``ValueError``, too."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib

DAMAGED_ARCHIVE: tuple[type[Exception], ...] = (
    EOFError,
    NotImplementedError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
