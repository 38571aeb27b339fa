"""The parameters of one launch, from a URL's query or a request's body, checked against what the site allows.

::

    urlpath=lab/tree/a.ipynb     a path below the server, with its own query (nbgitpuller: git-pull?repo=...)
    labpath=a.ipynb              -> lab/tree/a.ipynb       what BinderHub opens in single-document mode
    filepath=a.ipynb             -> lab/tree/a.ipynb       what BinderHub opens in the classic notebook
    workers, cores, memory       Dask workers to begin with; limits of the server, together with workers beside it
    base, as_of                  what is built

``labpath`` comes before ``filepath``, that before ``urlpath``. Whatever else is in a URL's query is handed on to the
notebook server, as BinderHub does. The path is always relative: a link of ours leads to a server of ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit

from launcher.container import WORKER_MINIMUM, LaunchOptions, parse_memory
from launcher.pools.site_pool import WorkerLimits
from launcher.refusal import RefusedError
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launcher.site_config import Site

OWN = frozenset(("urlpath", "labpath", "filepath", "base", "workers", "cores", "memory", "as_of"))
"""The parameters of ours."""
NOT_HANDED_ON = OWN | {"build_only", "build_token", "token", "ref", "_xsrf", "rebuild"}
LONGEST_PATH = 4096
DEFAULT_WORKERS = 2
LEAST_MEMORY = WORKER_MINIMUM

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_WHOLE = re.compile(r"\d{1,6}")
_DECIMAL = re.compile(r"\d{1,6}(\.\d{1,6})?")


@dataclass(frozen=True)
class LaunchParameters:
    """``options`` are within the site's limits; ``path`` is relative to the server's base URL, with its query;
    ``base`` and ``as_of`` are as they were stated, or empty."""

    options: LaunchOptions
    path: str = ""
    base: str = ""
    as_of: str = ""

    @classmethod
    def parse(cls, arguments: Mapping[str, Sequence[str | bytes]], site: Site) -> LaunchParameters:
        """Read a query's arguments (all values by name); raise :class:`RefusedError` 400 for what can't be."""
        texts = {name: [_text(value) for value in values] for name, values in arguments.items()}
        stated = {name: values[-1] for name, values in texts.items() if values and name in OWN}
        rest = [(name, value) for name, values in texts.items() if name not in NOT_HANDED_ON for value in values]
        return cls(
            options=_options(stated, site),
            path=_with_query(_path(stated), rest),
            base=stated.get("base", ""),
            as_of=checked_day(stated.get("as_of", "")),
        )


def checked_day(text: str) -> str:
    """Return a day (``YYYY-MM-DD``), ``commit`` or nothing as it is; raise :class:`RefusedError` for anything else."""
    if text in ("", "commit"):
        return text
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise RefusedError(f"as_of={text[:20]!r} is not a day: give one such as 2025-06-30, or `commit`") from error


def local_path(text: str) -> str:
    """Return a path of this host (``/...``, with its query), or ``/`` for whatever leads elsewhere."""
    try:
        return "/" + relative_path(text)
    except RefusedError:
        return "/"


def relative_path(text: str) -> str:
    """Return a path below a server without its leading ``/``; raise :class:`RefusedError` if it leads out of it.

    Browsers read ``\\`` as ``/``, drop tabs and newlines, and ``%2e%2e`` is ``..`` to them: all of these are refused.
    """
    if len(text) > LONGEST_PATH:
        raise RefusedError(f"the path to open is longer than {LONGEST_PATH} characters")
    before, _, query = text.partition("?")
    path = before.partition("#")[0].removeprefix("/")
    decoded = path
    for _ in range(3):  # what is behind a proxy may decode once more than we do
        decoded = unquote(decoded)
    for form in (path, decoded):
        segments = form.split("/")
        if form.startswith("/") or "\\" in form or _SCHEME.match(form) or ".." in segments:
            raise RefusedError(f"the path to open, {text[:100]!r}, leads away from the notebook server")
    if _CONTROL.search(text) or _CONTROL.search(decoded) or "\\" in query:
        raise RefusedError("the path to open holds characters that no path has")
    return text.removeprefix("/")


def _text(value: str | bytes) -> str:
    try:
        return value if isinstance(value, str) else value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError("the query is not UTF-8 text") from error


def _path(stated: Mapping[str, str]) -> str:
    for name in ("labpath", "filepath"):
        if stated.get(name):
            return "lab/tree/" + relative_path(quote(stated[name].removeprefix("/"), safe="/"))
    return relative_path(stated.get("urlpath", ""))


def _with_query(path: str, rest: Sequence[tuple[str, str]]) -> str:
    """Return a path with further arguments behind its own."""
    if not rest:
        return path
    parts = urlsplit(path)
    query = "&".join(part for part in (parts.query, urlencode(rest)) if part)
    return parts._replace(query=query).geturl()


def _options(stated: Mapping[str, str], site: Site) -> LaunchOptions:
    limits = site.limits
    most = parse_memory(limits.memory)
    memory_text = stated.get("memory") or limits.memory
    memory = _memory(memory_text)
    if not min(LEAST_MEMORY, most) <= memory <= most:
        raise RefusedError(f"memory={memory_text} can't be: this site gives from 256M up to {limits.memory}")
    cores = limits.cpus
    if stated.get("cores"):
        cores = float(stated["cores"]) if _DECIMAL.fullmatch(stated["cores"]) else 0.0
        if not 0.1 <= cores <= limits.cpus:
            raise RefusedError(f"cores={stated['cores'][:20]} can't be: this site gives from 0.1 up to {limits.cpus:g}")
    allowed = WorkerLimits.of_site(site, memory)
    workers = min(DEFAULT_WORKERS, allowed.maximum)
    if stated.get("workers"):
        workers = int(stated["workers"]) if _WHOLE.fullmatch(stated["workers"]) else -1
        if not 0 <= workers <= allowed.most:
            raise RefusedError(f"workers={stated['workers'][:20]} can't be: this site gives up to {allowed.most}")
        if workers > allowed.fitting:
            sentence = f"{memory_text} of memory is enough for {allowed.fitting} Dask workers, not for {workers}"
            raise RefusedError(sentence)
    return LaunchOptions(workers=workers, cpus=cores, memory=memory_text, maximum=allowed.maximum)


def _memory(text: str) -> int:
    try:
        return parse_memory(text[:40])
    except (CasabinderError, OverflowError) as error:
        raise RefusedError(f"memory={text[:20]!r} is not a size of memory: give one such as 4G or 512M") from error
