"""What is launched most is counted over all commits of a repository; what is private is nobody's business."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from launcher.database import open_database
from launcher.hub.launch_log import LaunchLog
from launcher.jobs.model import Asked
from launcher.service.popular import popular
from launcher.site_config import Launches, Service
from tests.unit.launcher.hub.test_launch_log import entry

if TYPE_CHECKING:
    from pathlib import Path

FREE = Launches(per_user=0)


def test_what_was_launched_most(tmp_path: Path) -> None:
    log = LaunchLog(open_database(Service(), tmp_path))
    for number, (spec, commit) in enumerate((("t/often/main", "a"), ("t/often/main", "b"), ("t/once/HEAD", "c"))):
        log.claim(entry(number, spec=spec, commit=commit), FREE)
    for number in range(3, 8):
        log.claim(replace(entry(number, spec="t/secret/main", commit="d"), private=True), FREE)
    assert popular(log, 5) == [Asked("gh", "t/often/main"), Asked("gh", "t/once/HEAD")]
    assert popular(log, 1) == [Asked("gh", "t/often/main")]
    assert popular(log, 0) == []
