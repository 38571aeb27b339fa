from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.container import (
    MEBIBYTE,
    WORKER_MINIMUM,
    LaunchOptions,
    commit_url,
    describe,
    owner,
    parse_memory,
    pool,
    secrets_archive,
    server_name,
    words_on_gpus,
)
from registry_sync.errors import CasabinderError
from tests.unit.launcher.records import RECORD, record

OPTIONS = LaunchOptions(workers=2, cpus=1.5, memory="4G", environment={"AGC_DATA": "root://host//store"}, maximum=4)


def test_a_launch_is_this_docker_command() -> None:
    arguments = describe(RECORD, OPTIONS, "casabinder-agc-ttbar-123456", "owner").arguments()
    lines = " ".join(arguments).replace(" --", "\n--").splitlines()
    assert lines == [
        "create",
        "--name casabinder-agc-ttbar-123456",
        "--env-file /dev/stdin",
        "--label org.casabinder.notebook=ce8b2e17be0aea65",
        "--label org.casabinder.env-id=26fca59ae82528b4",
        f"--label org.casabinder.digest=sha256:{'d' * 64}",
        "--label org.casabinder.repo=https://github.com/team/agc-ttbar.git",
        "--label org.casabinder.ref=refs/heads/main",
        f"--label org.casabinder.commit={'2' * 40}",
        "--label org.casabinder.workers=2",
        "--label org.casabinder.owner=owner",
        "--user 1000:1000",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--pids-limit 4096",
        "--cpus 1.5",
        "--memory 4294967296",
        "--memory-swap 4294967296",
        "--mount type=volume,destination=/run/casabinder",
        "--log-driver local",
        "--publish 127.0.0.1::8888",
        f"--add-host host.docker.internal:host-gateway 127.0.0.1:5000/casabinder/agc-ttbar-0a1b2c@sha256:{'d' * 64}",
    ]


def test_the_environment_goes_by_standard_input() -> None:
    assert describe(RECORD, OPTIONS, "name", "owner").environment_file().decode().splitlines() == [
        "AGC_DATA=root://host//store",
        f"BINDER_REF_URL=https://github.com/team/agc-ttbar/tree/{'2' * 40}",
        "BINDER_REPO_URL=https://github.com/team/agc-ttbar.git",
        "CASABINDER_ENV_ID=26fca59ae82528b4",
        "CASABINDER_IMAGE=127.0.0.1:5000/casabinder/agc-ttbar-0a1b2c:ce8b2e17be0aea65",
        f"CASABINDER_IMAGE_DIGEST=sha256:{'d' * 64}",
        'CASABINDER_POOL={"kind":"local","maximum":4,"memory":"768MiB","threads":1,"workers":2}',
        "CASABINDER_SECRETS=/run/casabinder",
        "JUPYTER_TOKEN_FILE=/run/casabinder/token",
    ]


def test_gpus_are_asked_of_docker_and_make_another_server() -> None:
    container = describe(RECORD, replace(OPTIONS, gpus=2), "name", "owner")
    arguments = container.arguments()
    assert arguments[arguments.index("--gpus") + 1] == "2"
    assert "--gpus" not in describe(RECORD, OPTIONS, "name", "owner").arguments()
    assert server_name(RECORD, replace(OPTIONS, gpus=1), "owner") != server_name(RECORD, OPTIONS, "owner")
    assert [words_on_gpus(number) for number in range(3)] == ["", " and 1 GPU", " and 2 GPUs"]


def test_a_port_is_published_on_loopback_only() -> None:
    arguments = describe(RECORD, LaunchOptions(port=8899), "name", "owner").arguments()
    assert "127.0.0.1:8899:8888" in arguments


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"A B": "x"}, "'A B' is not the name of an environment variable"),
        ({"#A": "x"}, "'#A' is not the name of an environment variable"),
        ({"CASABINDER_POOL": "{}"}, "CASABINDER_POOL is set by casabinder itself"),
        ({"JUPYTER_TOKEN_FILE": "/x"}, "JUPYTER_TOKEN_FILE is set by casabinder itself"),
        ({"KEY": "one\nEVIL=two"}, "KEY has more than one line"),
    ],
)
def test_a_variable_that_cannot_be_passed_on_is_refused(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(CasabinderError, match=sentence):
        describe(RECORD, LaunchOptions(environment=environment), "name", "owner")


@given(st.integers(1, 64), st.integers(0, 64), st.integers(64, 2**20))
def test_workers_never_get_more_than_three_quarters(workers: int, maximum: int, mebibytes: int) -> None:
    options = LaunchOptions(workers=workers, maximum=maximum, memory=f"{mebibytes}M")
    memory = parse_memory(options.memory)
    try:
        described = pool(options, memory)
    except CasabinderError:
        assert memory * 3 // 4 // max(workers, maximum) < WORKER_MINIMUM
        return
    each = int(str(described["memory"]).removesuffix("MiB")) * MEBIBYTE
    assert each >= WORKER_MINIMUM
    assert each * int(described["maximum"]) <= memory * 3 // 4


def test_too_little_memory_says_how_many_workers_it_is_enough_for() -> None:
    with pytest.raises(CasabinderError, match=r"1G of memory is enough for 3 Dask workers, not for 8"):
        pool(LaunchOptions(workers=8, memory="1G"), parse_memory("1G"))


def test_without_workers_there_is_no_session() -> None:
    assert pool(LaunchOptions(workers=0, maximum=4), 2**30) == {"kind": "local", "workers": 0}


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 2**32), ("1.5GiB", 3 * 2**29), ("512m", 2**29), ("2 GB", 2**31), ("1048576", 2**20)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "4X", "12", "1K", "inf", "4G; rm"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(CasabinderError, match="is not a size of memory"):
        parse_memory(text)


def test_the_name_tells_launches_apart() -> None:
    mine = owner(Path("/cache"))
    name = server_name(RECORD, OPTIONS, mine)
    assert name.startswith("casabinder-agc-ttbar-")
    assert len(name.rpartition("-")[2]) == 6
    assert server_name(record(created="later", ref="refs/heads/other"), OPTIONS, mine) == name
    others = {
        server_name(record(digest=f"sha256:{'e' * 64}"), OPTIONS, mine),
        server_name(RECORD, LaunchOptions(workers=3), mine),
        server_name(RECORD, LaunchOptions(environment={"A": "1"}), mine),
        server_name(RECORD, OPTIONS, owner(Path("/other"))),
    }
    assert len(others) == 4
    assert name not in others


def test_a_commit_has_a_page_where_one_is_known() -> None:
    assert commit_url("https://gitlab.com/a/b", "c") == "https://gitlab.com/a/b/-/tree/c"
    assert commit_url("/home/me/repo", "c") == "c"


def test_the_token_is_readable_by_the_containers_user_alone() -> None:
    with tarfile.open(fileobj=io.BytesIO(secrets_archive("a-token"))) as archive:
        directory, file = archive.getmembers()
        content = archive.extractfile(file)
        assert content is not None
        assert content.read() == b"a-token"
    assert (directory.name, directory.mode, directory.uid, directory.gid) == ("casabinder", 0o700, 1000, 1000)
    assert (file.name, file.mode, file.uid, file.gid) == ("casabinder/token", 0o400, 1000, 1000)


def test_nothing_that_docker_is_told_has_a_token_in_it() -> None:
    container = describe(RECORD, OPTIONS, "name", "owner")
    told = json.dumps([container.arguments(), container.environment_file().decode()]).lower()
    assert "token" not in told.replace("jupyter_token_file=/run/casabinder/token", "")


def test_further_files_have_the_same_owner_and_mode() -> None:
    with tarfile.open(fileobj=io.BytesIO(secrets_archive("", "", {"data/a": "one", "data/b": "two"}))) as archive:
        members = [(member.name, oct(member.mode), member.uid, member.isdir()) for member in archive]
    assert members == [
        ("casabinder", "0o700", 1000, True),
        ("casabinder/data", "0o700", 1000, True),
        ("casabinder/data/a", "0o400", 1000, False),
        ("casabinder/data/b", "0o400", 1000, False),
    ]
