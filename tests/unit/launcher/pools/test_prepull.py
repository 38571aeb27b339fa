"""The jobs that bring an image to nodes, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import htcondor2
import pytest

from launcher.pools import warm_up as process
from launcher.pools.prepull import Prepulls, Tally, prepull, warm_up
from launcher.pools.site_pool import BatchPool
from launcher.site_config import Pool, Site
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "registry.example.org/casabinder/x:0123456789abcdef"
GOLDEN = """\
universe = docker
docker_image = registry.example.org/casabinder/x:0123456789abcdef
docker_override_entrypoint = True
docker_network_type = none
executable = /bin/true
transfer_executable = False
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
transfer_output_files = ""
request_cpus = 1
request_memory = 64MB
request_disk = 1MB
priority = -100
requirements = splitSlotName(TARGET.Name)[1] == MY.CasabinderNode && (HasCVMFS)
leave_in_queue = JobStatus == 4 && time() - CompletionDate < 600
periodic_remove = time() - QDate > 300
batch_name = casabinder-prepull
MY.CasabinderPrepull = True
MY.CasabinderNode = "$(startd_name)"
accounting_group = cms.alice
"""


def site(**more: Any) -> Site:
    settings = {
        "kind": "htcondor",
        "collector": "127.0.0.1:9",
        "schedd": "s@d",
        "trust_domain": "d",
        "signing_key": "/none",
        "prepull": {"nodes": 5, "seconds": 300},
    }
    return Site(pool=Pool.model_validate({**settings, **more}))


def pool(**more: Any) -> BatchPool:
    return BatchPool(site(**more).pool, "alice", 600)


def test_the_description_is_what_it_always_was() -> None:
    description = warm_up(pool(accounting_group="cms.{user}", requirements="HasCVMFS"), IMAGE, ["a.org", "b@d"])
    queue = description.pop("queue")
    text = "".join(f"{name} = {value}\n" for name, value in description.items())
    assert text == GOLDEN
    assert queue == "startd_name in (a.org, b@d)"
    parsed = htcondor2.Submit(f"{text}queue {queue}\n")
    assert parsed["requirements"] == description["requirements"]
    assert "a.org" in parsed.getQArgs()


def test_nodes_that_read_images_from_elsewhere_pull_nothing() -> None:
    with pytest.raises(CasabinderError, match=r"there is nothing to pull before: nodes of the container universe"):
        prepull(pool(universe="container"), IMAGE, 5)


def test_free_nodes_first_and_no_more_than_wanted() -> None:
    slots = [
        {"Name": "slot1@a", "Cpus": 0},
        {"Name": "slot1@b", "Cpus": 2},
        {"Name": "slot2@b", "Cpus": 3},
        {"Name": "slot1@c@d", "Cpus": 4},
    ]
    assert process.choose(slots, 5) == ["b", "c@d", "a"]
    assert process.choose(slots, 2) == ["b", "c@d"]


def test_jobs_are_counted_by_how_they_ended() -> None:
    ads: list[dict[str, object]] = [
        {"CasabinderNode": "a", "JobStatus": 4, "ExitCode": 0},
        {"CasabinderNode": "b", "JobStatus": 4, "ExitCode": 127},
        {"CasabinderNode": "c", "JobStatus": 5, "HoldReasonCode": 35, "HoldReason": "no such\nimage"},
        {"CasabinderNode": "d", "JobStatus": 5, "HoldReasonCode": 16, "HoldReason": "spooling"},
        {"CasabinderNode": "e", "JobStatus": 1},
        {"CasabinderNode": "f", "JobStatus": 2},
    ]
    assert process.outcome(ads) == (1, {"b": "/bin/true ended with status 127", "c": "no such image"})


@pytest.mark.parametrize(
    ("tally", "sentence"),
    [
        (Tally("x:1", 2, 2), "2 of 2 nodes have x:1"),
        (
            Tally("x:1", 4, 1, {"b": "no such image"}),
            "1 of 4 nodes have x:1; 2 had no free core in time; b: no such image",
        ),
    ],
)
def test_a_tally_in_words(tally: Tally, sentence: str) -> None:
    assert tally.sentence == sentence


@pytest.mark.parametrize(
    "unwanted",
    [Site(), site(prepull={"nodes": 0}), site(universe="container")],
    ids=["local", "not asked for", "no pulls"],
)
def test_nothing_is_begun_where_nothing_is_wanted(unwanted: Site) -> None:
    assert Prepulls(unwanted).begin(IMAGE) is None


def test_a_build_does_not_suffer_from_a_pool_that_is_broken(caplog: pytest.LogCaptureFixture) -> None:
    prepulls = Prepulls(site())  # its key is not there
    thread = prepulls.begin(IMAGE)
    assert thread is not None
    thread.join(10)
    assert prepulls.begin(IMAGE) is None
    assert "no image was brought to nodes: " in caplog.text


def test_a_pool_that_does_not_answer_is_said(tmp_path: Path) -> None:
    key = tmp_path / "POOL"
    key.write_bytes(b"k" * 64)
    key.chmod(0o600)
    with pytest.raises(CasabinderError, match=r"could not be brought to nodes of 127.0.0.1:9: "):
        prepull(pool(signing_key=str(key)), IMAGE, 5)
