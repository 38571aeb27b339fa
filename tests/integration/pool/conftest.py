"""One pool and one session for the modules in which workers of a session are jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.testbed.condor.settings import NodeShape
from tests.testbed.launching import build_repository, open_facility
from tests.testbed.pool import running_pool
from tests.testbed.pool_session import JOIN_SECONDS, running_pool_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.record import ImageRecord
    from tests.testbed.pool import RunningPool
    from tests.testbed.pool_session import PoolSession

MODULES = {
    "helper.py": "def tenfold(number):\n    return 10 * number\n",
    "needs.py": "import os\n\nif '_CONDOR_SCRATCH_DIR' in os.environ:\n    import absent_on_workers\n\n\n"
    "def one():\n    return 1\n",
}
DISK = 256  # MiB of a node, so that it can be filled
# A session keeps its slots for a while; there are others for whoever comes next.
SHAPE = NodeShape(cores=16, memory=16_384, disk=DISK)


@pytest.fixture(scope="session")
def images() -> tuple[ImageRecord, ImageRecord]:
    """The notebook's image, and another one of the same base."""
    with open_facility() as context:
        own = build_repository(context, "pool-session", MODULES)
        other = build_repository(context, "pool-other", {"requirements.txt": "cowsay\n"})
    assert own.env_id != other.env_id
    return own, other


@pytest.fixture(scope="session")
def session_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPool]:
    """A pool of two nodes with a disk of their own."""
    with running_pool(tmp_path_factory.mktemp("pool") / "pool", shape=SHAPE) as running:
        yield running


@pytest.fixture(scope="session")
def session(
    session_pool: RunningPool, images: tuple[ImageRecord, ImageRecord], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PoolSession]:
    """A session of two workers that may have four; whoever scales it puts it back."""
    directory = tmp_path_factory.mktemp("session")
    with running_pool_session(directory, session_pool, images[0].image, workers=2, maximum=4) as running:
        running.run(f"client.wait_for_workers(2, timeout={JOIN_SECONDS})")
        yield running
