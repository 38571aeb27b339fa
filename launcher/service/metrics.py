"""What Prometheus is told. Labels are few and bounded: never a repository, a user or an address.

What BinderHub measures too has BinderHub's names, so that its dashboards work; its ``repo`` label is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from launcher.service.audit import PROVIDER_NAMES

if TYPE_CHECKING:
    from launcher.jobs.model import Job
    from launcher.pools.prepull import Tally

_BUILD_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 3600, 7200)
_LAUNCH_BUCKETS = (1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600)
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
MOST_RETRIES = 10


class Metrics:
    """The service's counters. One object per process; methods may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        by_result = ["status", "provider"]
        self._builds = Counter("binderhub_build_count", "Builds that ended", by_result, registry=self.registry)
        self._build_time = Histogram(
            "binderhub_build_time_seconds",
            "Time of a build",
            ["status"],
            buckets=_BUILD_BUCKETS,
            registry=self.registry,
        )
        self._launches = Counter("binderhub_launch_count", "Launches that ended", by_result, registry=self.registry)
        self._launch_time = Histogram(
            "binderhub_launch_time_seconds",
            "Time of a launch",
            ["status", "retries"],
            buckets=_LAUNCH_BUCKETS,
            registry=self.registry,
        )
        self._running = Gauge("binderhub_inprogress_builds", "Builds that run", registry=self.registry)
        self._queued = Gauge("casabinder_queued_builds", "Builds that wait for their turn", registry=self.registry)
        self._servers = Gauge("casabinder_servers", "Notebook servers that run or start", registry=self.registry)
        self._watchers = Gauge("casabinder_watchers", "Who watches builds here", registry=self.registry)
        self._prepulls = Counter(
            "casabinder_prepulled_nodes",
            "Nodes that an image was brought to, or was to be",
            ["status"],
            registry=self.registry,
        )
        self._requests = Histogram(
            "casabinder_request_seconds",
            "Time to answer a request (of an event stream: to its end)",
            ["route", "method", "status"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )

    def build_ended(self, job: Job) -> None:
        """Count a job that has ended; one that was found, not built, took no time."""
        status = {"built": "success", "failed": "failure"}.get(job.state, job.state)
        self._builds.labels(status, _provider(job.request.asked.provider)).inc()
        if job.started is not None and job.finished is not None:
            self._build_time.labels(status).observe(job.finished - job.started)

    def launch_ended(self, provider: str, status: str, seconds: float, retries: int = 0) -> None:
        """Count a launch: ``status`` is ``success``, ``failure``, ``retry`` or ``quota``."""
        self._launches.labels(status, _provider(provider)).inc()
        self._launch_time.labels(status, str(min(retries, MOST_RETRIES))).observe(seconds)

    def prepull_ended(self, tally: Tally) -> None:
        """Count the nodes that have an image now, that can't have it, and that had no time."""
        for status, nodes in (("brought", tally.brought), ("failed", len(tally.failed)), ("late", tally.waiting)):
            self._prepulls.labels(status).inc(nodes)

    def request_ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; ``route`` is a pattern of the application's, never a path."""
        self._requests.labels(route, method, str(status)).observe(seconds)

    def exposition(self, *, queued: int, running: int, servers: int, watchers: int) -> bytes:
        """Return everything in Prometheus' text format, with these numbers as they are now."""
        self._queued.set(queued)
        self._running.set(running)
        self._servers.set(servers)
        self._watchers.set(watchers)
        return generate_latest(self.registry)


def _provider(prefix: str) -> str:
    return PROVIDER_NAMES.get(prefix, "other")
