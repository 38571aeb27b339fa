from __future__ import annotations

import pytest

from builder.container.image_check import ImageFacts, check_image, offers_workers, read_facts
from registry_sync.errors import CasabinderError

COMPLETE = ImageFacts(
    "1000",
    home=True,
    commands=frozenset({"jupyterhub-singleuser", "jupyter-lab"}),
    python="3.13",
    modules=frozenset({"ipykernel", "dask", "distributed", "casabinder_runtime"}),
)


def test_reading_what_a_container_says() -> None:
    said = [
        "uid=1000",
        "a warning of somebody's profile",
        "home=writable",
        "command=jupyter-lab",
        "command=rm",
        "python=3.12",
        "module=dask",
        "module=os",
    ]
    assert read_facts(said) == ImageFacts("1000", True, frozenset({"jupyter-lab"}), "3.12", frozenset({"dask"}))
    assert read_facts([]) == ImageFacts()


def test_a_complete_image_needs_no_words() -> None:
    assert check_image(COMPLETE, "Dockerfile") == []
    assert offers_workers(COMPLETE)


def test_an_image_without_a_server_is_refused() -> None:
    with pytest.raises(CasabinderError, match="binder/Dockerfile: no notebook server can start in the image: install"):
        check_image(ImageFacts("0"), "binder/Dockerfile")


def test_what_is_missing_is_told_piece_by_piece() -> None:
    facts = ImageFacts("0", commands=frozenset({"jupyter-lab"}), python="3.11", modules=frozenset({"dask"}))
    assert not offers_workers(facts)
    assert check_image(facts, "Dockerfile") == [
        "Dockerfile: JupyterHub can't start it without jupyterhub-singleuser: install jupyterhub",
        "Dockerfile: it has no Python kernel: install ipykernel for the python3 on its PATH",
        "Dockerfile: it runs as user 0 and will be run as user 1000: end it with USER 1000",
        "Dockerfile: its user can't write to HOME, which notebook servers need: create one and set ENV HOME",
        "Dockerfile: Dask workers are not offered, because python3 can't import distributed, casabinder_runtime",
    ]
