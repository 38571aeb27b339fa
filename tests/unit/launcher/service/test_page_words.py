from __future__ import annotations

import pytest

from launcher.service.page_words import Contact, choices, contact, error_words
from launcher.service.parameters import LaunchParameters
from launcher.site_config import Limits, Site
from tests.unit.launcher.records import htcondor_pool


def test_the_choices_of_a_small_site() -> None:
    workers, cores, memory = choices(Site(limits=Limits(cpus=2, memory="4G", workers=4)))
    assert workers.options == (("", "2 (usual)"), ("0", "none"), ("1", "1"), ("2", "2"), ("3", "3"), ("4", "4"))
    assert cores.options == (("", "2 (usual)"), ("0.5", "0.5"), ("1", "1"))
    assert memory.options == (("", "4 GB (usual)"), ("1G", "1 GB"), ("2G", "2 GB"))


def test_many_workers_are_not_listed_one_by_one() -> None:
    workers, _, _ = choices(Site(limits=Limits(workers=100)))
    assert [value for value, _ in workers.options[8:]] == ["7", "8", "16", "32", "64", "100"]


def test_workers_of_a_pool_are_the_pools_and_said_to_be() -> None:
    site = Site(limits=Limits(memory="1G", workers=1), pool=htcondor_pool(maximum=10))
    workers, cores, memory = choices(site)
    assert workers.hint == "Jobs of the HTCondor pool condor.example.org, to begin with. Up to 10 here"
    assert [value for value, _ in workers.options[8:]] == ["7", "8", "10"]
    assert cores.hint == memory.hint == "For the notebook; workers in the pool have their own"
    for value, _ in workers.options:
        LaunchParameters.parse({"workers": [value], "memory": ["256M"]}, site)


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(cpus=0.5, memory="512M", workers=0), Limits(cpus=48, memory="96G")]
)
def test_every_choice_is_one_that_a_launch_takes(limits: Limits) -> None:
    site = Site(limits=limits)
    for choice in choices(site):
        for value, _ in choice.options:
            if value != "" and choice.parameter != "workers":
                LaunchParameters.parse({choice.parameter: [value], "workers": ["0"]}, site)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("help@facility.example", Contact("help@facility.example", "mailto:help@facility.example")),
        ("https://facility.example/help", Contact("https://facility.example/help", "https://facility.example/help")),
        ("the desk, room 3", Contact("the desk, room 3", "")),
        ("javascript:alert(1)", Contact("javascript:alert(1)", "")),
    ],
)
def test_a_contact_is_a_link_if_it_can_be_one(text: str, expected: Contact | None) -> None:
    assert contact(text) == expected


@pytest.mark.parametrize("status", [400, 403, 404, 409, 424, 429, 500, 502, 503])
def test_every_error_has_a_title(status: int) -> None:
    title, advice = error_words(status)
    assert title
    assert advice or status < 500
