"""What the pages say that follows from data: a site's choices, its contact, and what to do about an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.container import parse_memory
from launcher.service.parameters import DEFAULT_WORKERS

if TYPE_CHECKING:
    from launcher.site_config import Site

_GIBIBYTE = 2**30
_MANY = 8


@dataclass(frozen=True)
class Choice:
    """A launch parameter as a menu: ``options`` are (value, words), of which the first has no value: the usual."""

    parameter: str
    label: str
    hint: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Contact:
    """Where to ask: a text, and its address as a link, or ``""``."""

    text: str
    address: str


def choices(site: Site) -> tuple[Choice, ...]:
    """Return what may be chosen for one launch within a site's limits."""
    limits = site.limits
    if site.pool.kind == "htcondor":
        where = f"Jobs of the HTCondor pool {site.pool.collector}, to begin with"
        whose = "For the notebook; workers in the pool have their own"
        most = site.pool.maximum
    else:
        where, whose = "Processes that compute in parallel, to begin with", "For the notebook and all workers together"
        most = limits.workers
    return (_workers(most, where), _cores(limits.cpus, whose), _memory(limits.memory, whose))


def contact(text: str) -> Contact | None:
    """Return a site's contact: an address of the web or of a mailbox becomes a link."""
    if not text:
        return None
    if text.startswith(("https://", "http://", "mailto:")):
        return Contact(text.removeprefix("mailto:"), text)
    mailbox = "@" in text and " " not in text
    return Contact(text, f"mailto:{text}" if mailbox else "")


_TITLES = {
    400: "This request can't be understood",
    401: "You are not signed in",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This address does not work that way",
    424: "This server has stopped",
    429: "That was too much at once",
    503: "The service is not ready",
}
_ADVICE = {
    401: "Sign in and try again.",
    403: "If you think that it should be, ask the people who run this service.",
    404: "Check the address, or begin at the start page.",
    424: "It was stopped by you, or after a while without use. To launch its repository again takes seconds.",
    429: "Wait a little and try again.",
    503: "Try again in a moment: builds that are under way go on.",
}


def error_words(status: int) -> tuple[str, str]:
    """Return the title of an error's page, and what to do about it."""
    if status >= 500:
        advice = "Try again in a moment. If it stays like this, tell the people who run this service."
        return _TITLES.get(status, "Something went wrong here"), _ADVICE.get(status, advice)
    return _TITLES.get(status, "This did not work"), _ADVICE.get(status, "")


def _workers(most: int, where: str) -> Choice:
    counts = [*range(min(most, _MANY) + 1)]
    while counts[-1] < most:
        counts.append(min(counts[-1] * 2, most))
    words = [(str(count), str(count) if count else "none") for count in counts]
    usual = min(DEFAULT_WORKERS, most)
    return Choice("workers", "Dask workers", f"{where}. Up to {most} here", (("", f"{usual} (usual)"), *words))


def _cores(most: float, hint: str) -> Choice:
    steps = [cores for cores in (0.5, 1, 2, 4, 8, 16, 32, 64) if cores < most]
    usual = ("", f"{most:g} (usual)")
    return Choice("cores", "Processor cores", hint, (usual, *((f"{cores:g}", f"{cores:g}") for cores in steps)))


def _memory(most: str, hint: str) -> Choice:
    size = parse_memory(most)
    steps = [gigabytes for gigabytes in (1, 2, 4, 8, 16, 32, 64, 128) if gigabytes * _GIBIBYTE < size]
    usual = ("", f"{size / _GIBIBYTE:g} GB (usual)")
    return Choice("memory", "Memory", hint, (usual, *((f"{step}G", f"{step} GB") for step in steps)))
