"""Metrics: BinderHub's names, and no label that a user can make grow."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from launcher.jobs.model import Asked, BuildRequest, Job
from launcher.service.metrics import Metrics


def job(provider: str, state: str) -> Job:
    request = BuildRequest(Asked(provider, "lab/ana/main"), "https://host.test/lab/ana", "main", "1" * 40)
    return Job("id", "key", state, request, "user:a", 0.0, started=1.0, finished=4.0)  # type: ignore[arg-type]


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition(queued=3, running=2, servers=5, watchers=7).decode()
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_binderhub_counts_is_counted_under_its_names() -> None:
    metrics = Metrics()
    metrics.build_ended(job("gh", "built"))
    metrics.build_ended(job("zenodo", "failed"))
    metrics.launch_ended("gh", "success", 4.2)
    found = samples(metrics)
    assert found["binderhub_build_count_total", (("provider", "GitHub"), ("status", "success"))] == 1
    assert found["binderhub_build_count_total", (("provider", "Zenodo"), ("status", "failure"))] == 1
    assert found["binderhub_build_time_seconds_sum", (("status", "success"),)] == 3
    assert found["binderhub_launch_count_total", (("provider", "GitHub"), ("status", "success"))] == 1
    assert found["binderhub_inprogress_builds", ()] == 2
    assert found["casabinder_queued_builds", ()] == 3
    assert found["casabinder_servers", ()] == 5
    assert found["casabinder_watchers", ()] == 7
    assert found["process_start_time_seconds", ()] > 0


def test_whatever_is_asked_for_the_series_stay_few() -> None:
    metrics = Metrics()
    for count in range(100):
        metrics.build_ended(job(f"made-up-{count}", "built"))
        metrics.launch_ended(f"made-up-{count}", "failure", 1.0, retries=count)
    names = [name for name, _ in samples(metrics)]
    assert names.count("binderhub_build_count_total") == 1
    assert names.count("binderhub_launch_time_seconds_count") == 11
