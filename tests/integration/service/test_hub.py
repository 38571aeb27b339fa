"""Servers through a real JupyterHub, its proxy and Docker: what starts, what is refused, why something failed."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from builder.container.engine import docker, docker_json
from launcher.container import LaunchOptions
from launcher.database import open_database
from launcher.hub.client import HubClient
from launcher.hub.launch import Origin
from launcher.hub.launching import Launches
from launcher.hub.vouching import GOOD_FOR, OPTION, LaunchRequest, Voucher
from launcher.jobs.model import Asked, BuildRequest, Job
from launcher.refusal import RefusedError
from launcher.security.keys import Keys
from launcher.security.principal import Principal
from tests.testbed.hub import RunningHub, running_hub
from tests.testbed.launching import build_repository, engine_answers, engine_has_gpus, open_facility

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from builder.record import ImageRecord
    from launcher.context import Context
    from launcher.hub.launch import Launch, LaunchEvent

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker Engine answers: run scripts/bootstrap"),
]

OPTIONS = LaunchOptions(workers=0, cpus=1.0, memory="1G")
VISITOR = Principal("visitor", "v1", address="127.0.0.1")
ANN = Principal("user", "ann")
TESTER = {"name": "tester", "api_token": "a-token-of-the-tests-own-service"}
SCOPES = ["admin:users", "admin:servers", "tokens", "access:servers"]
LOGIN = {
    "mode": "login",
    "authenticator": "dummy",
    "settings": {
        "Authenticator": {"allowed_users": ["ann", "bob"]},
        "JupyterHub": {
            "services": [TESTER],
            "load_roles": [{"name": "tester", "services": ["tester"], "scopes": SCOPES}],
        },
    },
}
SOON_IDLE = {"launches": {"idle_seconds": 10}}


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    with open_facility() as context:
        yield context


@pytest.fixture(scope="module")
def record(context: Context) -> ImageRecord:
    return build_repository(context, "hub", {"README.md": "# a repository\n"})


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("anonymous"), {"hub": {"mode": "anonymous"}}) as hub:
        yield hub


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("login"), {"hub": LOGIN}) as hub:
        yield hub


@asynccontextmanager
async def open_launches(hub: RunningHub, context: Context, **allowed: Any) -> AsyncIterator[Launches]:
    """Open what a launch service works with; each is a replica of its own."""
    service = hub.site.service
    service = service.model_copy(update={"launches": service.launches.model_copy(update=allowed)})
    context = replace(context, site=hub.site.model_copy(update={"service": service}))
    engine = open_database(service, hub.cache)
    public, proxy = hub.plan.public_url, hub.plan.proxy_url
    launches = Launches(context, engine, hub.keys, hub.client(), public_url=public, proxy_url=proxy)
    try:
        yield launches
    finally:
        await launches.close()
        engine.dispose()


def job_of(record: ImageRecord) -> Job:
    asked = Asked("git", record.repo)
    return Job("job", "key", "built", BuildRequest(asked, record.repo, record.ref, record.commit), "visitor:v1", 0.0)


async def launch(
    launches: Launches, record: ImageRecord, principal: Principal = VISITOR, options: LaunchOptions = OPTIONS
) -> tuple[Launch, list[LaunchEvent]]:
    """Launch and watch until the end."""
    started = await launches.start(job_of(record), record, options, principal, Origin(request="v2/git/x"))
    return started, [event async for event in launches.events(started.id, principal)]


def inside(container: str, *command: str) -> str:
    return docker("exec", container, *command)


def test_a_temporary_server_has_its_token_in_a_file_and_nothing_of_the_hubs(
    anonymous: RunningHub, context: Context, record: ImageRecord
) -> None:
    async def go() -> None:
        async with open_launches(anonymous, context) as launches:
            started, events = await launch(launches, record)
            assert events[-1].kind == "ready", (events, anonymous.log())
            url, token = events[-1].url, events[-1].token
            assert url == f"{anonymous.plan.public_url}/user/{started.user}/"
            assert "waiting for the notebook server" in [event.message for event in events]
            (container,) = anonymous.containers()
            check_container(container, record, token)
            check_door(url, token)
            with httpx.Client(headers={"Authorization": f"token {anonymous.token}"}, trust_env=False) as client:
                hubs = client.get(f"{anonymous.plan.hub_api_url}/users/{started.user}").json()
            assert hubs["servers"][""]["user_options"] == {}

            anonymous.restart()
            check_door(url, token)
        async with open_launches(anonymous, context) as other:
            (again,) = [event async for event in other.events(started.id, VISITOR)]
            assert (again.url, again.token) == (url, token)
            assert [one.id for one in await other.servers(VISITOR)] == [started.id]
            with pytest.raises(RefusedError, match="somebody else's"):
                await other.stop(started.id, Principal("visitor", "v2"))
            volumes = [mount["Name"] for mount in docker_json("inspect", container)[0]["Mounts"]]
            await other.stop(started.id, VISITOR)
            assert anonymous.containers() == []
            assert not set(volumes) & set(docker("volume", "ls", "--quiet").split())
            assert await other.servers(VISITOR) == []
            with pytest.raises(RefusedError, match="launch it again"):
                await other.resume(started.id, VISITOR)
            (use,) = [use for use in await other.images(VISITOR) if use.digest == record.digest]
            assert (use.launches >= 1, use.bytes) == (True, record.bytes["total"])

    asyncio.run(go())


def check_container(container: str, record: ImageRecord, token: str) -> None:
    document = docker_json("inspect", container)[0]
    environment = dict(entry.split("=", 1) for entry in document["Config"]["Env"])
    assert not [name for name in environment if name.startswith(("JUPYTERHUB", "JPY_"))]
    assert environment["CASABINDER_IMAGE_DIGEST"] == record.digest
    assert environment["JUPYTER_TOKEN_FILE"] == "/run/casabinder/token"
    assert environment["BINDER_REQUEST"] == "v2/git/x"
    told = docker("inspect", container) + docker("logs", container)
    assert token not in told + inside(container, "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ")
    assert inside(container, "stat", "-c", "%a %u", "/run/casabinder", "/run/casabinder/token").split("\n")[:2] == [
        "700 1000",
        "400 1000",
    ]
    labels, host = document["Config"]["Labels"], document["HostConfig"]
    assert labels["org.casabinder.env-id"] == record.env_id
    assert labels["org.casabinder.digest"] == record.digest
    assert "org.casabinder.notebook" not in labels
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (2**30, 2**30, 10**9, 4096)
    assert [binding["HostIp"] for binding in host["PortBindings"]["8888/tcp"]] == ["127.0.0.1"]
    assert document["Config"]["User"] == "1000:1000"


def check_door(url: str, token: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        assert client.get("api/contents").status_code == 403
        right = {"Authorization": f"token {token}"}
        assert client.get("api/contents", headers={"Authorization": "token wrong"}).status_code == 403
        assert "README.md" in client.get("api/contents", headers=right).text


def request_for(record: ImageRecord, user: str, **changes: Any) -> LaunchRequest:
    """Return a request that would start the image for a user."""
    name = record.image.rpartition(":")[0]
    fields: dict[str, Any] = {"mode": "anonymous", "image": f"{name}@{record.digest}", "tag": record.image}
    fields |= {name: getattr(record, name) for name in ("digest", "env_id", "image_id", "repo", "ref", "commit")}
    return LaunchRequest(**{"id": "r1", "user": user, "server": "", **fields, "cpus": 1.0, "memory": 2**30, **changes})


def test_the_hubs_token_alone_starts_nothing(anonymous: RunningHub, record: ImageRecord) -> None:
    mine, now = Voucher(anonymous.keys), time.time()
    good = mine.sign(request_for(record, "eve"), now)
    head, body, signature = good.split(".")
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "only the launch service starts servers here"),
        ({"image": "127.0.0.1:5000/anything:latest"}, "only the launch service starts servers here"),
        ({OPTION: good, "image": "other"}, "decided by the launch service alone"),
        ({OPTION: f"{head}.{body[:-2]}xx.{signature}"}, "not signed by the launch service"),
        ({OPTION: Voucher(Keys(bytes(32))).sign(request_for(record, "eve"), now)}, "not signed by the launch service"),
        ({OPTION: mine.sign(request_for(record, "ann"), now)}, "was made for another one"),
        ({OPTION: mine.sign(request_for(record, "eve", server="x"), now)}, "was made for another one"),
        ({OPTION: mine.sign(request_for(record, "eve", mode="login"), now)}, "not for the mode anonymous"),
        ({OPTION: mine.sign(request_for(record, "eve"), now - GOOD_FOR - 60)}, "too old: launch it again"),
    ]

    async def go() -> None:
        client = anonymous.client()
        await client.create_user("eve")
        for options, sentence in cases:
            await client.start("eve", "", options)
            *_, last = [progress async for progress in client.progress("eve", "")]
            assert last.failed, options
            assert last.explained
            assert sentence in last.message
        assert anonymous.containers() == []

        await client.start("eve", "", {OPTION: mine.sign(request_for(record, "eve"), now)})
        *_, last = [progress async for progress in client.progress("eve", "")]
        assert last.ready, anonymous.log()
        await client.stop("eve", "")
        assert anonymous.containers() == []
        for options in ({}, {OPTION: good}):  # what the hub remembers, and the same request once more
            await client.start("eve", "", options)
            *_, last = [progress async for progress in client.progress("eve", "")]
            assert last.failed
        assert "was used before" in last.message
        await client.delete_user("eve")
        await client.close()

    asyncio.run(go())


def test_the_cause_of_a_failure_is_told_and_nothing_is_left(
    anonymous: RunningHub, context: Context, record: ImageRecord
) -> None:
    ends = build_repository(context, "hub-ends", {"start": "#!/bin/sh\necho no licence >&2\nexit 3\n"})
    hungry = build_repository(
        context, "hub-hungry", {"start": '#!/bin/sh\nexec /srv/jupyter/bin/python -c "b = bytearray(2**31)"\n'}
    )
    missing = replace(record, digest=f"sha256:{'0' * 64}")
    cases = [
        (ends, "the notebook server did not start: it ended with status 3. Its last words: no licence"),
        (hungry, "the notebook server did not start: it ran out of memory"),
        (missing, "can't be pulled: "),
    ]

    async def go() -> None:
        async with open_launches(anonymous, context) as launches:
            for image, sentence in cases:
                started, events = await launch(launches, image)
                assert events[-1].kind == "failed"
                assert sentence in events[-1].message
                assert not [event for event in events if "trying again" in event.message]
                assert await launches.servers(VISITOR) == []
                assert await anonymous_state(anonymous, started) == ""
            assert anonymous.containers() == []

    asyncio.run(go())


@pytest.mark.skipif(engine_has_gpus(), reason="Docker can give containers GPUs here")
def test_an_image_for_cuda_gets_a_gpu_or_a_sentence(
    anonymous: RunningHub, context: Context, record: ImageRecord
) -> None:
    dockerfile = f"FROM {record.image}\nLABEL org.casabinder.cuda=12.9\n"
    image = build_repository(context, "hub-cuda", {"Dockerfile": dockerfile})
    limits = anonymous.site.limits.model_copy(update={"gpus": 1})
    hub = replace(anonymous, site=anonymous.site.model_copy(update={"limits": limits}))

    async def go() -> None:
        async with open_launches(hub, context) as launches:
            _, events = await launch(launches, image)
            assert "1.0 GB of memory and 1 GPU" in " ".join(event.message for event in events)
            assert events[-1].message.startswith("Docker can't give the server a GPU here")
            assert not [event for event in events if "trying again" in event.message]
            _, events = await launch(launches, record)
            assert events[-1].kind == "ready"
            await launches.stop((await launches.servers(VISITOR))[0].id, VISITOR)
            assert anonymous.containers() == []

    asyncio.run(go())


async def anonymous_state(hub: RunningHub, started: Launch) -> str:
    client = hub.client()
    try:
        return await client.state(started.user, started.server)
    finally:
        await client.close()


def test_one_server_too_many_is_refused_and_one_that_starts_can_be_stopped(
    anonymous: RunningHub, context: Context, record: ImageRecord
) -> None:
    async def go() -> None:
        async with open_launches(anonymous, context, per_user=1) as launches:
            first = await launches.start(job_of(record), record, OPTIONS, VISITOR, Origin())
            with pytest.raises(RefusedError, match="stop one") as caught:
                await launches.start(job_of(record), record, OPTIONS, VISITOR, Origin())
            assert caught.value.status == 429
            with pytest.raises(RefusedError, match="gives up to 2"):
                await launches.start(job_of(record), record, replace(OPTIONS, cpus=64), VISITOR, Origin())
            *said, last = [event async for event in stopped_when_something_happens(launches, first.id)]
            assert said
            assert last.message == "the server was stopped while it started"
            assert anonymous.containers() == []
            assert await launches.running() == 0

    asyncio.run(go())


async def stopped_when_something_happens(launches: Launches, launch_id: str) -> AsyncIterator[LaunchEvent]:
    stopping = None
    async for event in launches.events(launch_id, VISITOR):
        yield event
        stopping = stopping or asyncio.create_task(launches.stop(launch_id, VISITOR))
    assert stopping is not None
    await stopping


def test_who_logs_in_has_a_home_and_resumes_servers(login: RunningHub, context: Context, record: ImageRecord) -> None:
    async def go() -> None:
        async with open_launches(login, context) as launches:
            started, events = await launch(launches, record, ANN)
            assert (events[-1].kind, events[-1].token) == ("ready", ""), (events, login.log())
            (container,) = login.containers()
            inside(container, "touch", "/srv/repo/mine", "/home/jovyan/kept")
            inside(container, "test", "-e", "/srv/repo/README.md")
            assert inside(container, "stat", "-c", "%a", "/run/casabinder").strip() == "700"
            check_people(login, events[-1].url)

            same, events = await launch(launches, record, ANN)
            assert (same.id, [event.kind for event in events]) == (started.id, ["ready"])
            await launches.stop(started.id, ANN)
            (stopped,) = await launches.servers(ANN)
            assert (stopped.state, stopped.kept) == ("stopped", True)
            assert docker_json("inspect", container)[0]["State"]["Running"] is False

            await launches.resume(started.id, ANN)
            *_, last = [event async for event in launches.events(started.id, ANN)]
            assert last.kind == "ready", (last, login.log())
            inside(container, "test", "-e", "/srv/repo/mine")
            check_people(login, last.url)

            await launches.stop(started.id, ANN)
            same, _ = await launch(launches, replace(record, ref="another-name-of-the-commit"), ANN)
            assert same.id == started.id
            inside(container, "test", "-e", "/srv/repo/mine")

            await launches.stop(started.id, ANN, remove_files=True)
            assert await launches.servers(ANN) == []
            assert login.containers() == []
            _, events = await launch(launches, record, ANN)
            (new,) = login.containers()
            inside(new, "test", "-e", "/home/jovyan/kept", "-a", "!", "-e", "/srv/repo/mine")
            (server,) = await launches.servers(ANN)
            await launches.stop(server.id, ANN, remove_files=True)
            with pytest.raises(RefusedError, match="log in to launch"):
                await launch(launches, record, VISITOR)

    asyncio.run(go())


def test_files_of_a_server_that_does_not_start_again_stay(
    login: RunningHub, context: Context, record: ImageRecord, tmp_path: Path
) -> None:
    script = tmp_path / "start"

    def change_its_start(container: str, content: str) -> None:
        script.write_text(content, encoding="utf-8")
        script.chmod(0o755)
        docker("cp", str(script), f"{container}:/srv/repo/start")

    async def go() -> None:
        async with open_launches(login, context) as launches:
            started, events = await launch(launches, record, ANN)
            assert events[-1].kind == "ready", (events, login.log())
            (container,) = login.containers()
            inside(container, "touch", "/srv/repo/mine")
            await launches.stop(started.id, ANN)

            change_its_start(container, "#!/bin/sh\nexit 3\n")
            await launches.resume(started.id, ANN)
            *_, last = [event async for event in launches.events(started.id, ANN)]
            assert (last.kind, "ended with status 3" in last.message) == ("failed", True)
            await launches.stop(started.id, ANN)
            (stopped,) = await launches.servers(ANN)
            assert stopped.resumable

            change_its_start(container, '#!/bin/sh\nexec "$@"\n')
            await launches.resume(started.id, ANN)
            *_, last = [event async for event in launches.events(started.id, ANN)]
            assert last.kind == "ready", (last, login.log())
            inside(container, "test", "-e", "/srv/repo/mine")
            await launches.stop(started.id, ANN, remove_files=True)
            assert login.containers() == []

    asyncio.run(go())


def test_a_temporary_server_that_nobody_uses_is_stopped_and_forgotten(
    tmp_path: Path, context: Context, record: ImageRecord
) -> None:
    with running_hub(tmp_path / "idle", {"hub": {"mode": "anonymous"}, "service": SOON_IDLE}) as hub:

        async def go() -> None:
            async with open_launches(hub, context) as launches:
                started, events = await launch(launches, record)
                assert events[-1].kind == "ready", (events, hub.log())
                await until(hub, lambda: hub.containers() == [])
                await until(hub, lambda: user_status(hub, started.user) == 404)
                await launches.refresh(now=True)
                (last,) = [event async for event in launches.events(started.id, VISITOR)]
                assert last.message == "the server has ended, or was not used for a while"
                assert (await launches.running(), await launches.servers(VISITOR)) == (0, [])

        asyncio.run(go())


def test_the_server_of_who_logged_in_is_stopped_when_nobody_uses_it_and_keeps_its_files(
    tmp_path: Path, context: Context, record: ImageRecord
) -> None:
    with running_hub(tmp_path / "idle", {"hub": LOGIN, "service": SOON_IDLE}) as hub:

        async def go() -> None:
            async with open_launches(hub, context) as launches:
                _, events = await launch(launches, record, ANN)
                assert events[-1].kind == "ready", (events, hub.log())
                (container,) = hub.containers()
                (tmp_path / "mine").write_text("mine", encoding="utf-8")
                docker("cp", str(tmp_path / "mine"), f"{container}:/srv/repo/mine")
                await until(hub, lambda: not docker_json("inspect", container)[0]["State"]["Running"])
                assert user_status(hub, "ann") == 200
                stopped = await until_stopped(hub, launches)
                assert stopped.resumable
                assert stopped.message == "the server has ended, or was not used for a while"
                await launches.resume(stopped.id, ANN)
                *_, last = [event async for event in launches.events(stopped.id, ANN)]
                assert last.kind == "ready", (last, hub.log())
                docker("cp", f"{container}:/srv/repo/mine", str(tmp_path / "back"))
                assert (tmp_path / "back").read_text(encoding="utf-8") == "mine"

        asyncio.run(go())


async def until(hub: RunningHub, what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, hub.log()
        await asyncio.sleep(0.2)


async def until_stopped(hub: RunningHub, launches: Launches) -> Launch:
    """Return Ann's one server as soon as the hub knows that it has stopped, which is after its container has."""
    deadline = time.monotonic() + 120
    while True:
        await launches.refresh(now=True)
        (server,) = await launches.servers(ANN)
        if server.state == "stopped":
            return server
        assert time.monotonic() < deadline, hub.log()
        await asyncio.sleep(0.2)


def user_status(hub: RunningHub, user: str) -> int:
    """Return the status with which the hub answers when it is asked for a user."""
    headers = {"Authorization": f"token {hub.token}"}
    return httpx.get(f"{hub.plan.hub_api_url}/users/{user}", headers=headers, trust_env=False).status_code


def token_of(hub: RunningHub, user: str) -> str:
    """Return a token with which a user may do what a user may."""
    headers = {"Authorization": f"token {TESTER['api_token']}"}
    answer = httpx.post(f"{hub.plan.hub_api_url}/users/{user}/tokens", headers=headers, json={}, trust_env=False)
    return str(answer.raise_for_status().json()["token"])


def check_people(hub: RunningHub, url: str) -> None:
    """The owner comes in, nobody else."""
    for user, status in (("ann", 200), ("bob", 403)):
        headers = {"Authorization": f"token {token_of(hub, user)}"}
        assert httpx.get(f"{url}api/contents", headers=headers, trust_env=False, timeout=30).status_code == status
    assert httpx.get(f"{url}api/contents", trust_env=False, timeout=30).status_code == 403


def test_people_start_nothing_with_their_own_token_or_the_hubs_form(login: RunningHub) -> None:
    with httpx.Client(base_url=login.plan.proxy_url, trust_env=False, follow_redirects=True, timeout=30) as browser:
        browser.get("/hub/login")
        form = {"username": "ann", "password": "x", "_xsrf": browser.cookies.get("_xsrf", path="/hub/")}
        # It leads on to the page of the launch service, which is not there.
        assert browser.post("/hub/login", data=form, follow_redirects=False).status_code == 302
        page = browser.post("/hub/spawn/ann/mine", data={"_xsrf": browser.cookies.get("_xsrf", path="/hub/")})
        for _ in range(50):
            if "only the launch service starts servers here" in page.text:
                break
            time.sleep(0.1)
            page = browser.get("/hub/spawn-pending/ann/mine")
        assert "only the launch service starts servers here" in page.text

    async def with_her_token() -> None:
        hers = HubClient(login.plan.hub_api_url, token_of(login, "ann"))
        await hers.start("ann", "other", {"image": "127.0.0.1:5000/anything:latest"})
        *_, last = [progress async for progress in hers.progress("ann", "other")]
        assert last.failed
        assert "only the launch service starts servers here" in last.message
        await hers.close()

    asyncio.run(with_her_token())
    assert login.containers() == []
