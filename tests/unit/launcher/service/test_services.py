"""What the service does when a build has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from launcher.database import open_database
from launcher.jobs.model import Result
from launcher.pools.prepull import Prepulls
from launcher.service.metrics import Metrics
from launcher.service.services import _CountedJobs
from launcher.site_config import Pool, Service, Site
from tests.testbed.jobs import NOW, key, record, request

if TYPE_CHECKING:
    from pathlib import Path

POOL = {
    "kind": "htcondor",
    "collector": "127.0.0.1:9",
    "schedd": "s@d",
    "trust_domain": "d",
    "signing_key": "/none",
    "prepull": {"nodes": 5},
}


@pytest.mark.parametrize(
    ("state", "cached", "begun"), [("built", False, True), ("built", True, False), ("failed", False, False)]
)
def test_what_was_made_is_brought_to_the_pool(tmp_path: Path, state: str, cached: bool, begun: bool) -> None:
    engine = open_database(Service(), tmp_path)
    jobs = _CountedJobs(engine)
    jobs.metrics, jobs.prepulls = Metrics(), Prepulls(Site(pool=Pool.model_validate(POOL)))
    job, _ = jobs.submit(key("one"), request(), "user:ann", now=NOW)
    assert jobs.claim(job.id, "first", NOW)
    made = {**record(), "cached": cached}
    result = Result("built", record=made) if state == "built" else Result("failed", "no such package")
    ended = jobs.finish(job.id, "first", result, NOW + 1)
    assert ended.state == state
    image = str(made["image"])
    assert (jobs.prepulls.begin(image) is None) == begun  # what was begun with is not begun with again
    engine.dispose()
