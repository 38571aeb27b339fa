from __future__ import annotations

from pathlib import Path

import pytest
from casabinder_runtime.errors import PoolError
from casabinder_runtime.pools import PoolConfig, make_pool
from casabinder_runtime.pools.local import LocalPool
from casabinder_runtime.pools.pool import SessionContext
from casabinder_runtime.tls import create_session_certificates


def test_nothing_asked_for_is_a_local_pool_of_no_workers() -> None:
    assert make_pool(PoolConfig.parse("")) == LocalPool()


def test_everything_asked_for_reaches_the_pool() -> None:
    text = '{"kind": "local", "workers": 2, "maximum": 4, "threads": 3, "memory": "1.5GB"}'
    assert make_pool(PoolConfig.parse(text)) == LocalPool(workers=2, maximum=4, threads=3, memory="1.5GB")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "CASABINDER_POOL is not JSON"),
        ("[]", 'must be a JSON object with a "kind"'),
        ('{"workers": 2}', 'must be a JSON object with a "kind"'),
        ('{"kind": "local", "workers": -1}', "workers must be a number of workers, not -1"),
        ('{"kind": "local", "workers": true}', "workers must be a number of workers, not True"),
        ('{"kind": "local", "idle_seconds": -1}', "idle_seconds must be a number of seconds, not -1"),
        ('{"kind": "local", "workers": 3, "maximum": 2}', "asks for 3 workers, its maximum is 2"),
        ('{"kind": "local", "thraeds": 2}', "a local pool has no option thraeds"),
        ('{"kind": "local", "threads": 0}', "threads of a local pool must be a number of at least 1, not 0"),
        ('{"kind": "local", "memory": "much"}', "must be a size such as \"1.5GB\", not 'much'"),
        ('{"kind": "local", "memory": 5}', 'must be a size such as "1.5GB", not 5'),
        ('{"kind": "htcondor"}', "an HTCondor pool needs image, collector, schedd, trust_domain, address"),
        ('{"kind": "local", "environment": {"A B": "x"}}', "'A B' of environment must be the name of one line"),
        ('{"kind": "local", "environment": {"A": "$HOME"}}', "'A' of environment must be the name of one line"),
        ('{"kind": "local", "environment": {"A": 1}}', "'A' of environment must be the name of one line"),
        ('{"kind": "local", "environment": []}', "environment must be texts by name, not []"),
        ('{"kind": "local", "data": {"token": "x"}}', "data may have token_command, and nothing else"),
        ('{"kind": "local", "data": {"token_command": "oidc-token"}}', "token_command of data must be a program"),
        ('{"kind": "slurm"}', "there is no pool of the kind 'slurm'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(PoolError) as caught:
        make_pool(PoolConfig.parse(text))
    assert sentence in str(caught.value)


def test_what_is_for_reading_data_is_for_every_kind_of_pool() -> None:
    config = PoolConfig.parse(
        '{"kind": "local", "environment": {"XCACHE_HOST": "xcache"}, "data": {"token_command": ["oidc-token", "x"]}}'
    )
    assert (config.environment, config.token_command) == ({"XCACHE_HOST": "xcache"}, ("oidc-token", "x"))
    assert make_pool(config) == LocalPool(environment={"XCACHE_HOST": "xcache"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0),
        ('{"kind": "local"}', 0),
        ('{"kind": "local", "idle_seconds": 60}', 60),
        ('{"kind": "htcondor"}', 1800),
        ('{"kind": "htcondor", "idle_seconds": 0}', 0),
    ],
)
def test_slots_of_others_are_given_back_unless_the_site_says_otherwise(text: str, seconds: int) -> None:
    assert PoolConfig.parse(text).idle_seconds == seconds


def test_local_workers_are_guarded_and_find_the_repository(tmp_path: Path) -> None:
    context = SessionContext(
        env_id="5ca1ab1e5ca1ab1e",
        identity_file=Path("/etc/casabinder/env.json"),
        repository=Path("/srv/repo"),
        tls=create_session_certificates(tmp_path / "session"),
        host="127.0.0.1",
        port=8786,
        dashboard_port=8787,
    )
    options = LocalPool(threads=2, memory="1GB", environment={"XCACHE_HOST": "xcache"}).worker_options(context)
    security = options.pop("security")
    assert security.require_encryption
    assert options == {
        "nthreads": 2,
        "memory_limit": "1GB",
        "dashboard": False,
        "preload": ["casabinder_runtime.guard", "casabinder_runtime.workplace"],
        "preload_argv": ["--identity", "/etc/casabinder/env.json"],
        "env": {"XCACHE_HOST": "xcache", "CASABINDER_ENV_ID": "5ca1ab1e5ca1ab1e", "REPO_DIR": "/srv/repo"},
    }
