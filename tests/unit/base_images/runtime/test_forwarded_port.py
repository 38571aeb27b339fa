from __future__ import annotations

from pathlib import Path

import pytest
from casabinder_runtime.forwarded_port import ForwardingError, contact_address, forwarded_port, node_address

JOB_AD = 'ClusterId = 7\ncontainer_service_names = "dask"\ndask_ContainerPort = 8788\ndask_HostPort = undefined\n'
OF_A_LOST_RUN = JOB_AD.replace("undefined", "49153")
MACHINE_AD = 'Machine = "node.example.org"\nMyAddress = "<192.0.2.5:9618?addrs=192.0.2.5-9618&alias=n&sock=startd_1>"\n'


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a job whose port is not known yet."""
    (tmp_path / ".job.ad").write_text(JOB_AD)
    (tmp_path / ".machine.ad").write_text(MACHINE_AD)
    return {"_CONDOR_JOB_AD": str(tmp_path / ".job.ad"), "_CONDOR_MACHINE_AD": str(tmp_path / ".machine.ad")}


def test_the_port_is_what_was_appended_last() -> None:
    assert forwarded_port(JOB_AD) is None
    assert forwarded_port(JOB_AD + "dask_HostPort = 49153\n") == 49153
    assert forwarded_port(JOB_AD + "dask_HostPort = 49153\ndask_HostPort = 49200\n") == 49200


def test_the_port_of_a_run_that_was_lost_is_not_taken() -> None:
    assert forwarded_port(OF_A_LOST_RUN) is None
    assert forwarded_port(OF_A_LOST_RUN + "dask_HostPort = 49200\n") == 49200
    assert forwarded_port(OF_A_LOST_RUN + "dask_HostPort = 49153\n") == 49153, "Docker may give the same one again"


def test_a_line_that_is_being_written_is_not_taken() -> None:
    assert forwarded_port(JOB_AD + "dask_HostPort = 491") is None


@pytest.mark.parametrize(
    ("ad", "address"),
    [
        (MACHINE_AD, "192.0.2.5"),
        ('MyAddress = "<[2001:db8::5]:9618?addrs=[2001-db8--5]-9618>"\n', "[2001:db8::5]"),
        ('StartdIpAddr = "<192.0.2.6:9618>"\n', "192.0.2.6"),
        ('OtherMyAddress = "<192.0.2.6:9618>"\n', None),
        ("MyAddress = undefined\n", None),
    ],
)
def test_the_nodes_address(ad: str, address: str | None) -> None:
    assert node_address(ad) == address


def test_the_port_is_waited_for(job: dict[str, str]) -> None:
    def tell(_: float) -> None:
        with Path(job["_CONDOR_JOB_AD"]).open("a") as ad:
            ad.write("dask_HostPort = 49153\n")

    assert contact_address(job, clock=lambda: 0.0, sleep=tell) == "tls://192.0.2.5:49153"


def test_it_is_not_waited_for_ever(job: dict[str, str]) -> None:
    times = iter([0.0, 30.0, 60.0])
    with pytest.raises(ForwardingError, match="HTCondor has not said within 60 s which port of this node leads to"):
        contact_address(job, clock=lambda: next(times), sleep=lambda _: None)


def test_what_is_missing_is_named(job: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ForwardingError, match="_CONDOR_MACHINE_AD is not set"):
        contact_address({})
    with pytest.raises(ForwardingError, match="_CONDOR_JOB_AD can't be read: No such file"):
        contact_address({**job, "_CONDOR_JOB_AD": str(tmp_path / "none")})
    (tmp_path / ".machine.ad").write_text("")
    with pytest.raises(ForwardingError, match="does not say the address of this node"):
        contact_address(job)
