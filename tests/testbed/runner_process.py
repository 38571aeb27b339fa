"""A runner as a process of its own, for tests that kill it (``python -m tests.testbed.runner_process``).

The site and the cache are those of the environment; tokens are those of the vault.
"""

from __future__ import annotations

import signal
import sys
import threading

from launcher.database import open_database
from launcher.jobs.process_executor import ProcessExecutor
from launcher.jobs.runner import Runner
from launcher.jobs.store import JobStore
from launcher.security.keys import Keys
from launcher.security.vault import Vault
from launcher.site_config import cache_directory, load_site


def main() -> int:
    """Run until SIGTERM, which ends it in good order."""
    site, cache = load_site(), cache_directory()
    engine = open_database(site.service, cache)
    vault = Vault(engine, Keys.load(cache / "service" / "secret"))
    executor = ProcessExecutor(cache, vault.reveal, site.service.builds.log_lines)
    runner = Runner(JobStore(engine), executor, site)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    runner.start()
    ended.wait()
    runner.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
