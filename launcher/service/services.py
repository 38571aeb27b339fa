"""Everything that the handlers of the launch service work with, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.database import open_database
from launcher.hub.client import HubClient
from launcher.hub.launch_log import LaunchLog
from launcher.hub.launching import Launches
from launcher.hub.plan import ServePlan, secret_file
from launcher.jobs.desk import Desk
from launcher.jobs.feed import Feed
from launcher.jobs.process_executor import ProcessExecutor
from launcher.jobs.runner import Runner
from launcher.jobs.store import JobStore
from launcher.pools.prepull import Prepulls
from launcher.security.deliveries import Deliveries
from launcher.security.keys import Keys
from launcher.security.rates import Rates
from launcher.security.shared_secret import read_secret
from launcher.security.vault import Vault
from launcher.service.audit import Audit
from launcher.service.authentication import Authentication
from launcher.service.hub_login import HubLogin
from launcher.service.metrics import Metrics
from launcher.service.popular import popular
from launcher.service.prebuilds import Prebuilds
from launcher.service.sessions import Sessions

if TYPE_CHECKING:
    from launcher.context import Context
    from launcher.hub.course import Outcome
    from launcher.jobs.model import Job, Result
    from launcher.site_config import Site


@dataclass(frozen=True)
class Services:
    """The rooms behind the handlers. All state is in the database, behind ``store`` and others."""

    context: Context
    site: Site
    keys: Keys
    store: JobStore
    desk: Desk
    feed: Feed
    runner: Runner
    prebuilds: Prebuilds
    launches: Launches
    rates: Rates
    deliveries: Deliveries
    vault: Vault
    metrics: Metrics
    audit: Audit
    authentication: Authentication


class _CountedJobs(JobStore):
    """The store as the runner has it: what ends is counted, and an image that was built is brought to the pool."""

    metrics: Metrics
    prepulls: Prepulls

    def finish(self, job_id: str, runner: str, result: Result, now: float) -> Job:
        job = super().finish(job_id, runner, result, now)
        self.metrics.build_ended(job)
        if job.state == "built" and not (result.record or {}).get("cached"):
            self.prepulls.begin(job.image)
        return job


def open_services(context: Context) -> Services:
    """Open the database and everything on it, in a process that the hub has started (``JUPYTERHUB_*``).

    Nothing runs yet: ``feed``, ``runner`` and ``prebuilds`` are started by whoever opens them.
    """
    site, cache = context.site, context.facility.cache
    for hook in site.service.webhooks.hooks:
        read_secret(hook.secret)  # said now, not to a webhook
    plan = ServePlan.read(cache)
    keys = Keys.load(secret_file(cache, site.service.secret))
    engine = open_database(site.service, cache)
    metrics, store, vault = Metrics(), _CountedJobs(engine), Vault(engine, keys)
    store.metrics, store.prepulls = metrics, Prepulls(site, metrics.prepull_ended)
    feed = Feed(store)
    executor = ProcessExecutor(cache, vault.reveal, site.service.builds.log_lines)

    def launched(outcome: Outcome) -> None:
        status = "success" if outcome.launch.state == "ready" else "failure"
        metrics.launch_ended(outcome.launch.provider, status, outcome.seconds, outcome.retries)

    hub = HubClient.from_environment()
    public = site.service.url or plan.public_url
    desk = Desk(context, store, vault, site)
    runner = Runner(store, executor, site, nudged=feed.nudge)
    log = LaunchLog(engine)
    return Services(
        context=context,
        site=site,
        keys=keys,
        store=store,
        desk=desk,
        feed=feed,
        runner=runner,
        prebuilds=Prebuilds(context, desk, lambda number: popular(log, number), runner.wake),
        launches=Launches(context, engine, keys, hub, public_url=public, proxy_url=plan.proxy_url, on_end=launched),
        rates=Rates(engine),
        deliveries=Deliveries(engine),
        vault=vault,
        metrics=metrics,
        audit=Audit(cache / "service" / "audit.jsonl"),
        authentication=Authentication(site, Sessions(keys), HubLogin()),
    )
