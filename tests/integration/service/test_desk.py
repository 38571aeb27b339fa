"""The desk with a real git server, registry and database: who gets which job, and what is refused."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from base_images.identity import Workshop
from builder.attachments.attach import attach
from builder.build import commit_alias
from builder.facility import Facility
from builder.locking.resolver import PackageIndex
from builder.options import BuildOptions
from builder.record import record_artifact
from builder.repository.fetching import Fetching
from builder.repository.spec import RepoSpec
from launcher.context import Context
from launcher.database import open_database
from launcher.jobs.desk import Desk
from launcher.jobs.model import PREBUILD, Asked, Result
from launcher.jobs.store import JobStore
from launcher.refusal import RefusedError
from launcher.security.keys import Keys
from launcher.security.principal import Principal
from launcher.security.vault import Vault
from launcher.site_config import Builds, Service, Site
from registry_sync.client import RegistryClient
from registry_sync.manifest import EMPTY_JSON, OCI_EMPTY, Descriptor, Manifest, sha256_digest
from tests.testbed.git_repository import commit_files, git
from tests.testbed.git_server import GitServer, running_git_server
from tests.testbed.jobs import NOW
from tests.testbed.registry import Registry, registry_is_installed, running_registry
from tests.unit.launcher.records import record

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from builder.record import ImageRecord
    from launcher.site_config import Channel
    from registry_sync.store import Store

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
]

ANN, BEN = Principal("user", "ann"), Principal("user", "ben")
VISITOR, OTHER = Principal("visitor", "1"), Principal("visitor", "2")
TOKEN = "a-token-that-nobody-may-see"
HERE = Fetching(private_addresses=True)


@dataclass
class House:
    """A site, its desk, and what is behind it."""

    desk: Desk
    store: JobStore
    vault: Vault
    context: Context
    registry: Store

    def put_image(self, url: str, commit: str) -> tuple[ImageRecord, str]:
        """Put an image with its record where a build of the commit would; return the record and the alias."""
        repository = self.context.facility.repository(RepoSpec(url).slug)
        config = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
        self.registry.put_blob(repository, config, lambda: BytesIO(EMPTY_JSON))
        manifest = Manifest.image(config, [], annotations={"for": commit})
        alias = commit_alias(commit, "", self.context.bases(), BuildOptions())
        self.registry.put_manifest(repository, alias, manifest)
        made = record(digest=manifest.digest, repo=url, commit=commit)
        attach(self.registry, repository, manifest.descriptor(), [record_artifact(made)])
        return made, repository


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def public(tmp_path: Path) -> Iterator[GitServer]:
    with running_git_server(tmp_path / "public") as server:
        yield server


@pytest.fixture
def private(tmp_path: Path) -> Iterator[GitServer]:
    with running_git_server(tmp_path / "private", login=("oauth2", TOKEN)) as server:
        yield server


@contextmanager
def opened(
    registry: Registry, directory: Path, fetching: Fetching = HERE, *, channel: Channel | None = None, **builds: Any
) -> Iterator[House]:
    site = Site(channel=channel, service=Service(builds=Builds(**builds)))
    engine = open_database(site.service, directory)
    store, vault = JobStore(engine), Vault(engine, Keys(b"s" * 32))
    with RegistryClient(registry.address, credentials=None) as client:
        facility = Facility(client, registry.address, "site", directory, fetching=fetching)
        context = Context(site, facility, Workshop(directory, PackageIndex()))
        desk = Desk(context, store, vault, site, lambda: NOW)
        yield House(desk, store, vault, context, client)
        desk.close()
    engine.dispose()


@pytest.fixture
def house(registry: Registry, tmp_path: Path) -> Iterator[House]:
    with opened(registry, tmp_path / "cache") as house:
        yield house


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def asked(url: str, ref: str = "HEAD", **more: Any) -> Asked:
    return Asked("git", f"{quote(url, safe='')}/{ref}", **more)


def refused(house: House, what: Asked, who: Principal = VISITOR) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        run(house.desk.submit(what, who))
    assert "\n" not in str(caught.value)
    with pytest.raises(RefusedError):
        run(house.desk.find_image(what, who))
    return caught.value


def listings(server: GitServer) -> int:
    return sum("/info/refs" in path for path, _ in server.requests)


def repository(server: GitServer, directory: Path, name: str = "team/repo") -> tuple[str, str]:
    commit = commit_files(directory / "work", {"data.txt": name})
    server.add(name, directory / "work")
    return server.url(name), commit


def test_a_commit_is_one_job_by_whatever_name_it_was_asked_for(house: House, public: GitServer, tmp_path: Path) -> None:
    url, commit = repository(public, tmp_path)
    first = run(house.desk.submit(asked(url, "main"), VISITOR))
    assert (first.state, first.owner, first.position, first.private) == ("queued", VISITOR.owner, 1, False)
    assert (first.request.repo, first.request.ref, first.request.commit) == (url, "main", commit)
    for ref in ("HEAD", "refs/heads/main", commit):
        assert run(house.desk.submit(asked(url, ref), OTHER)).id == first.id
    others: list[dict[str, Any]] = [
        {"as_of": "2024-01-01"},
        {"base": "coffea-py311"},
        {"rebuild": True},
        {"subdirectory": "sub"},
    ]
    ids = {run(house.desk.submit(asked(url, **other), OTHER)).id for other in others}
    assert len(ids | {first.id}) == 5
    assert run(house.desk.find_image(asked(url), VISITOR)) is None


def test_a_hundred_at_once_ask_the_host_once(house: House, public: GitServer, tmp_path: Path) -> None:
    url, commit = repository(public, tmp_path)

    async def all_at_once() -> set[str]:
        refs = ["main", "HEAD", commit] * 34
        jobs = await asyncio.gather(
            *(house.desk.submit(asked(url, ref), Principal("visitor", str(number))) for number, ref in enumerate(refs))
        )
        return {job.id for job in jobs}

    assert len(run(all_at_once())) == 1
    assert listings(public) == 1


def test_an_image_that_is_there_is_found_until_it_is_deleted(house: House, public: GitServer, tmp_path: Path) -> None:
    url, commit = repository(public, tmp_path)
    made, place = house.put_image(url, commit)
    name = f"{house.context.facility.registry}/{place}:{made.image_id}"
    job = run(house.desk.submit(asked(url), VISITOR))
    assert (job.state, job.digest, job.image) == ("built", made.digest, name)
    assert run(house.desk.submit(asked(url, commit), OTHER)).id == job.id
    assert run(house.desk.record(job)) == run(house.desk.find_image(asked(url), OTHER)) == replace(made, image=name)
    again = run(house.desk.submit(asked(url, rebuild=True), VISITOR))
    assert (again.state, again.request.asked.rebuild) == ("queued", True)
    house.registry.delete_manifest(place, made.digest)
    with pytest.raises(RefusedError, match="no longer in the registry") as caught:
        run(house.desk.record(job))
    assert caught.value.status == 410
    new = run(house.desk.submit(asked(url), VISITOR))
    assert (new.state, new.id != job.id) == ("queued", True)
    with pytest.raises(RefusedError, match="has made no image"):
        run(house.desk.record(new))


def test_a_build_is_built_anew_of_its_commit_wherever_the_branch_has_gone(
    house: House, public: GitServer, tmp_path: Path
) -> None:
    url, commit = repository(public, tmp_path)
    job = run(house.desk.submit(asked(url, "main", as_of="2024-01-01"), VISITOR))
    newer = commit_files(tmp_path / "work", {"data.txt": "changed"})
    public.add("team/repo", tmp_path / "work")
    with opened_again(house) as later:
        again = run(later.rebuild(job, OTHER))
        assert (again.owner, again.state, again.id != job.id) == (OTHER.owner, "queued", True)
        assert again.request == replace(job.request, asked=replace(job.request.asked, rebuild=True))
        assert run(later.rebuild(again, VISITOR)).id == again.id
        assert run(later.submit(asked(url, "main", as_of="2024-01-01"), VISITOR)).request.commit == newer != commit


def test_a_failure_is_not_the_answer_for_the_next_one(house: House, public: GitServer, tmp_path: Path) -> None:
    url, _ = repository(public, tmp_path)
    job = run(house.desk.submit(asked(url), VISITOR))
    house.store.claim(job.id, "runner", NOW)
    house.store.cancel(job.id, NOW)
    assert refused_now(house, asked(url)).retry_after > 0
    house.store.finish(job.id, "runner", Result("failed", "no"), NOW)
    new = run(house.desk.submit(asked(url), VISITOR))
    assert (new.state, new.key, new.id != job.id) == ("queued", job.key, True)


def refused_now(house: House, what: Asked) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        run(house.desk.submit(what, OTHER))
    return caught.value


def test_what_nobody_waits_for_takes_half_of_the_queue(registry: Registry, public: GitServer, tmp_path: Path) -> None:
    urls = [repository(public, tmp_path / str(number), f"team/{number}")[0] for number in range(3)]
    hook = Principal("service", "webhook")
    with opened(registry, tmp_path / "cache", queue=2) as house:
        first = run(house.desk.submit(asked(urls[0]), hook, priority=PREBUILD))
        assert (first.owner, first.priority) == ("service:webhook", PREBUILD)
        with pytest.raises(RefusedError) as caught:
            run(house.desk.submit(asked(urls[1]), hook, priority=PREBUILD))
        assert (caught.value.status, caught.value.retry_after > 0) == (503, True)
        click = run(house.desk.submit(asked(urls[2]), VISITOR))
        assert [job.id for job in house.store.waiting()] == [click.id, first.id]


def test_a_private_repository_is_for_those_who_may_read_it(house: House, private: GitServer, tmp_path: Path) -> None:
    url, commit = repository(private, tmp_path)
    host = private.address
    made, _ = house.put_image(url, commit)
    for who in (VISITOR, ANN):
        for ref in ("main", commit):
            # That the image is there is not told either.
            assert refused(house, asked(url, ref), who).status == 404
    credential = house.vault.put(ANN.owner, host, TOKEN, NOW)
    house.vault.put(BEN.owner, host, "not-the-token", NOW)
    for ref in ("main", commit):
        job = run(house.desk.submit(asked(url, ref), ANN))
        assert (job.state, job.private, job.owner, job.digest) == ("built", True, ANN.owner, made.digest)
        assert job.request.credential == credential
        assert refused(house, asked(url, ref), BEN).status == 404
        assert refused(house, asked(url, ref), VISITOR).status == 404
    house.vault.put(BEN.owner, host, f"oauth2:{TOKEN}", NOW)
    with opened_again(house) as later:
        bens = run(later.submit(asked(url), BEN))
        assert (bens.id != job.id, bens.key != job.key, bens.owner) == (True, True, BEN.owner)
        anns = run(later.submit(asked(url, rebuild=True), ANN))
        assert run(later.submit(asked(url, rebuild=True), BEN)).id != anns.id
    assert TOKEN not in str(house.store.find()) + str(house.store.events(anns.id))


@contextmanager
def opened_again(house: House) -> Iterator[Desk]:
    """Give a desk that has asked nobody anything yet."""
    desk = Desk(house.context, house.store, house.vault, house.context.site, lambda: NOW)
    yield desk
    desk.close()


def test_what_the_service_s_own_user_could_read_is_not_public(
    house: House, private: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = repository(private, tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine 127.0.0.1 login oauth2 password {TOKEN}\n")
    (home / ".netrc").chmod(0o600)
    (home / ".git-credentials").write_text(f"http://oauth2:{TOKEN}@{private.address}\n")
    (home / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    monkeypatch.setenv("HOME", str(home))
    assert git(tmp_path, "ls-remote", url)
    assert refused(house, asked(url)).status == 404


@pytest.mark.parametrize(
    ("what", "status", "says"),
    [
        (Asked("git", quote("file:///etc", safe="") + "/HEAD"), 400, "git"),
        (Asked("git", quote("/etc", safe="") + "/HEAD"), 400, "git"),
        (Asked("git", quote("git@github.com:team/repo", safe="") + "/HEAD"), 400, "https"),
        (Asked("git", quote("ssh://git@github.com/team/repo", safe="") + "/HEAD"), 400, "https"),
        (Asked("git", quote("https://me:token@github.com/team/repo", safe="") + "/HEAD"), 400, "password"),
        (Asked("git", quote("http://169.254.169.254/latest", safe="") + "/HEAD"), 403, "local network"),
        (Asked("git", quote("http://127.0.0.1:9/x", safe="") + "/HEAD"), 403, "local network"),
        (Asked("gh", "banned/repo/HEAD"), 403, "does not build"),
        (Asked("zenodo", "10.5281/zenodo.666"), 403, "does not build"),
        (Asked("nothing", "a/b/HEAD"), 400, "no provider"),
        (Asked("gh", "only-a-user"), 400, "form"),
        (Asked("gh", "a/b/main%0d%0aX-Header:%201"), 400, "printed"),
        (Asked("gh", "a/b/main\r\nX-Header: 1"), 400, "printed"),
        (Asked("gh", "a/b/\ud800"), 400, "printed"),
        (Asked("gh", "a/b/" + "x" * 10_000_000), 400, "longer"),
        (Asked("gh", "a/b/--upload-pack=touch"), 400, "neither a URL nor a ref"),
        (Asked("gh", "a/b/HEAD", base="evil.example.org/base:latest"), 400, "no base"),
        (Asked("gh", "a/b/HEAD", as_of="yesterday"), 400, "neither a date"),
        (Asked("gh", "a/b/HEAD", as_of="20240101"), 400, "neither a date"),
        (Asked("gh", "a/b/HEAD", subdirectory="../x"), 400, "plain path"),
    ],
)
def test_what_is_refused_without_asking_anybody(
    registry: Registry, tmp_path: Path, what: Asked, status: int, says: str
) -> None:
    fetching = Fetching(deny=("github.com/banned/*", "zenodo:*.666"))
    with opened(registry, tmp_path, fetching) as house:
        error = refused(house, what)
        assert error.status == status
        assert says in str(error)
        assert len(str(error)) < 500
        assert house.store.find() == []


def test_what_a_host_does_not_have(house: House, public: GitServer, tmp_path: Path) -> None:
    url, _ = repository(public, tmp_path)
    assert "has no branch or tag 'mian'; it has main" in str(refused(house, asked(url, "mian")))
    assert refused(house, asked(url, "mian")).status == 404
    assert refused(house, asked(public.url("team/other"))).status == 404
    silent = refused(house, asked("http://127.0.0.1:9/team/repo"))
    assert (silent.status, silent.retry_after > 0) == (502, True)


def test_a_registry_that_does_not_answer_is_no_registry_without_the_image(
    public: GitServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url, _ = repository(public, tmp_path)
    with running_registry(tmp_path_factory.mktemp("short-lived")) as gone:
        pass
    with opened(gone, tmp_path / "cache") as house:
        assert refused(house, asked(url)).status == 503
        assert house.store.find() == []


def test_an_image_is_stale_when_the_channel_names_another_release(
    registry: Registry, public: GitServer, tmp_path: Path
) -> None:
    url, commit = repository(public, tmp_path)
    with opened(registry, tmp_path / "cache", channel="stable") as house:
        bases = house.context.base_repository("coffea-py313")

        def point(name: str) -> str:
            config = Descriptor(OCI_EMPTY, sha256_digest(EMPTY_JSON), len(EMPTY_JSON))
            house.registry.put_blob(bases, config, lambda: BytesIO(EMPTY_JSON))
            manifest = Manifest.image(config, [], annotations={"release": name})
            house.registry.put_manifest(bases, "stable", manifest)
            return f"{registry.address}/{bases}@{manifest.digest}"

        none = refused(house, asked(url))
        assert (none.status, "names no release yet" in str(none)) == (503, True)
        unknown = refused(house, asked(url, base="coffea-py313:2026.01.01"))
        assert (unknown.status, "has no release 2026.01.01" in str(unknown)) == (400, True)
        first = point("first")
        house.desk.ask_again({bases})
        assert run(house.desk.offered()) == [first]
        house.put_image(url, commit)
        assert run(house.desk.submit(asked(url), VISITOR)).state == "built"
        assert run(house.desk.standing(asked(url))) == "built"
        second = point("second")
        assert run(house.desk.offered()) == [first], "asked every few seconds only"
        house.desk.ask_again({bases})
        assert run(house.desk.offered()) == [second]
        assert run(house.desk.standing(asked(url))) == "stale base"
        assert run(house.desk.submit(asked(url), VISITOR)).state == "queued"


def test_there_is_room_for_so_many(registry: Registry, public: GitServer, tmp_path: Path) -> None:
    urls = [repository(public, tmp_path, f"team/{number}")[0] for number in range(4)]
    with opened(registry, tmp_path / "cache", per_user=1, queue=3) as house:
        run(house.desk.submit(asked(urls[0]), VISITOR))
        assert refused_by(house, asked(urls[1]), VISITOR) == 429
        assert run(house.desk.submit(asked(urls[0]), OTHER)).position == 1
        admin = Principal("user", "root", admin=True)
        for url in urls[1:3]:
            run(house.desk.submit(asked(url), admin))
        assert refused_by(house, asked(urls[3]), admin) == 503


def refused_by(house: House, what: Asked, who: Principal) -> int:
    with pytest.raises(RefusedError) as caught:
        run(house.desk.submit(what, who))
    return caught.value.status


def test_what_was_pasted_and_what_there_is(house: House) -> None:
    pasted = house.desk.pasted(" https://github.com/team/repo/blob/main/a.ipynb\n")
    assert (pasted.provider, pasted.spec, pasted.path) == ("gh", "team/repo/main", "a.ipynb")
    for text in ("", "nothing at all", "x" * 5000, "https://github.com/a/\nb"):
        with pytest.raises(RefusedError) as caught:
            house.desk.pasted(text)
        assert caught.value.status == 400
    assert [provider["id"] for provider in house.desk.providers()][:2] == ["gh", "gist"]
