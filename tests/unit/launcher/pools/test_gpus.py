from __future__ import annotations

import pytest

from launcher.pools.gpus import server_gpus, wanted_gpus
from registry_sync.errors import CasabinderError

CUDA = {"org.casabinder.cuda": "12.6"}
LESS = {**CUDA, "org.casabinder.cuda-driver": "12.0"}


@pytest.mark.parametrize(
    ("asked", "most", "labels", "wanted"),
    [
        (None, 0, {}, (0, "")),
        (None, 2, {}, (0, "")),
        (2, 2, {}, (2, "")),
        (None, 2, CUDA, (1, "12.6")),
        (None, 0, CUDA, (0, "")),
        (0, 2, CUDA, (0, "")),
        (2, 2, LESS, (2, "12.0")),
    ],
)
def test_what_a_worker_asks_for(asked: int | None, most: int, labels: dict[str, str], wanted: tuple[int, str]) -> None:
    assert wanted_gpus(asked, most, labels) == wanted


def test_what_is_not_possible() -> None:
    with pytest.raises(CasabinderError, match=r"--gpus 2 is not possible here: this site has at most 1 for a worker"):
        wanted_gpus(2, 1, {})
    with pytest.raises(CasabinderError, match=r"this site has none for workers \(pool.gpus\)"):
        wanted_gpus(1, 0, {})
    with pytest.raises(CasabinderError, match=r"the image's label org.casabinder.cuda must be a version of CUDA"):
        wanted_gpus(None, 1, {"org.casabinder.cuda": "new"})


def test_servers_of_images_for_cuda_get_what_the_site_gives() -> None:
    assert server_gpus(2, {"org.casabinder.cuda": "12.9"}) == 2
    assert server_gpus(0, {"org.casabinder.cuda": "12.9"}) == 0
    assert server_gpus(2, {"org.casabinder.base": "coffea-py313"}) == 0
