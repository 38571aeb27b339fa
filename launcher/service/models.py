"""The API's documents: what is sent and what is answered. Nothing else says their shapes; :mod:`openapi` reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from launcher.jobs.model import Asked, State
from launcher.service.parameters import checked_day

if TYPE_CHECKING:
    from launcher.hub.launch import ImageUse, Launch
    from launcher.jobs.model import Job
    from launcher.security.principal import Principal
    from launcher.service.parameters import LaunchParameters

# What can't be shown is refused where it comes in.
_PLAIN = r"^[^\x00-\x1f\x7f]*$"
Text = Annotated[str, StringConstraints(max_length=2000, pattern=_PLAIN)]
Short = Annotated[str, StringConstraints(max_length=200, pattern=_PLAIN)]
Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{8,40}$")]
Day = Annotated[str, StringConstraints(pattern=r"^(\d{4}-\d{2}-\d{2}|commit)$")]
Host = Annotated[str, StringConstraints(max_length=255, pattern=r"^[a-z0-9.\[\]:-]+$")]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[!-~]+$")]


class Sent(BaseModel):
    """What a client sends: nothing that is not known, no text for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Query(BaseModel):
    """Arguments of a URL's query; others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Answer(BaseModel):
    """What the service answers with."""

    model_config = ConfigDict(frozen=True)


class RepositorySent(Sent):
    """A repository: BinderHub's ``provider`` and ``spec``, or a ``url`` as a person pastes it (and a ``ref``)."""

    provider: Prefix | None = Field(
        default=None, description="`gh`, `gl`, `git`, `zenodo`, ...: see /api/repoproviders"
    )
    spec: Text | None = Field(default=None, description="what follows in a BinderHub URL: `user/repository/ref`")
    url: Text | None = Field(default=None, description="an address of a repository, a file in it, or a DOI")
    ref: Short | None = Field(default=None, description="a branch, tag or commit, with `url`")
    base: Short | None = Field(default=None, description="a base image of /api/bases; without it one is chosen")
    as_of: Day | None = Field(default=None, description="packages as of this day, or of the `commit`'s")

    def stated(self) -> bool:
        """Whether a repository is named in either way, not in both."""
        by_spec = self.provider is not None and self.spec is not None
        return by_spec != (self.url is not None) and (self.provider is None) == (self.spec is None)

    def asked(self, provider: str, spec: str, *, rebuild: bool = False) -> Asked:
        """Return what is to be built, of a repository in BinderHub's words."""
        return Asked(provider, spec, base=self.base or "", as_of=checked_day(self.as_of or ""), rebuild=rebuild)


class BuildSent(RepositorySent):
    """What to build."""

    rebuild: bool = Field(default=False, description="build anew even if there is an image")

    @model_validator(mode="after")
    def _one_repository(self) -> BuildSent:
        if not self.stated():
            raise ValueError("give either `provider` and `spec`, or `url`")
        return self


class LaunchSent(RepositorySent):
    """What to launch: a build that has ended, or a repository that is built."""

    build: JobId | None = Field(default=None, description="the id of a build")
    workers: int | None = Field(default=None, ge=0, le=10_000, description="Dask workers to begin with")
    cores: float | None = Field(default=None, gt=0, le=10_000, description="CPU cores for server and local workers")
    memory: Short | None = Field(default=None, description="memory for server and local workers, as `4G`")
    urlpath: Text | None = Field(default=None, description="what to open, below the server's address")
    labpath: Text | None = Field(default=None, description="a file to open in JupyterLab")
    filepath: Text | None = Field(default=None, description="as `labpath`; BinderHub's name for the classic notebook")

    @model_validator(mode="after")
    def _one_thing(self) -> LaunchSent:
        if self.stated() == (self.build is not None):
            raise ValueError("give either `build`, or `provider` and `spec`, or `url`")
        return self

    def arguments(self) -> dict[str, list[str]]:
        """Return the parameters as a URL's query would have them."""
        names = ("workers", "cores", "memory", "urlpath", "labpath", "filepath")
        stated = {name: getattr(self, name) for name in names}
        texts = {name: f"{value:f}" if isinstance(value, float) else str(value) for name, value in stated.items()}
        return {name: [texts[name]] for name, value in stated.items() if value is not None}


class ParseSent(Sent):
    """A text that somebody pasted."""

    text: Text


class CredentialSent(Sent):
    """A token of one's own for a git host. It is never answered with."""

    host: Host = Field(description="`gitlab.example.org`, with its port if it has one")
    token: Secret


class BuildsQuery(Query):
    """Which builds to list, newest first."""

    repo: Text = Field(default="", description="the repository's URL, as a build has it")
    state: State | None = None
    mine: bool = Field(default=False, description="only those that this principal asked for first")
    limit: int = Field(default=50, ge=1, le=200)
    before: JobId | None = Field(default=None, description="the id of the last build of the page before")


class EventsQuery(Query):
    """From where on to send events."""

    after: int = Field(default=0, ge=0, le=2**53, description="the number of the last event that is known")


class ImageQuery(Query):
    """Which image of a commit is meant."""

    base: Short = ""
    as_of: Day | None = None


class ListQuery(Query):
    """How much to list."""

    limit: int = Field(default=100, ge=1, le=500)


class StopQuery(Query):
    """What becomes of a server's files."""

    remove: bool = Field(default=False, description="remove its files too, instead of keeping them for a resume")


class OpenQuery(Query):
    """What is to be opened in a server; the launch's own link has it."""

    path: Text = ""


class JobDocument(Answer):
    """A build."""

    id: str
    state: State
    provider: str
    spec: str
    repo: str
    ref: str
    commit: str
    base: str = Field(description="as it was asked for; empty: chosen by the builder")
    as_of: str
    created: datetime
    started: datetime | None
    finished: datetime | None
    position: int = Field(description="the place in the queue, from 1; 0 when not queued")
    attempt: int
    message: str = Field(description="the sentence that says why it failed")
    image: str
    digest: str
    env_id: str
    private: bool
    mine: bool = Field(description="whether whoever asks may cancel it")
    events: str
    log: str

    @classmethod
    def of(cls, job: Job, principal: Principal) -> JobDocument:
        """Return a job as ``principal`` sees it."""
        request, asked = job.request, job.request.asked
        names = ("id", "state", "position", "attempt", "message", "image", "digest", "env_id", "private")
        return cls(
            **{name: getattr(job, name) for name in names},
            provider=asked.provider,
            spec=asked.spec,
            base=asked.base,
            as_of=asked.as_of,
            repo=request.repo,
            ref=request.ref,
            commit=request.commit,
            created=time_of(job.created),
            started=None if job.started is None else time_of(job.started),
            finished=None if job.finished is None else time_of(job.finished),
            mine=principal.owns(job.owner),
            events=f"/api/builds/{job.id}/events",
            log=f"/api/builds/{job.id}/log",
        )


class JobEventDocument(Answer):
    """An event of a build: what the builder reports, or (``kind`` ``state``) that the build's state has changed."""

    number: int = Field(description="from 1 without gaps; also the event's `id`")
    time: float = Field(description="seconds since 1970")
    kind: Literal["start", "progress", "end", "message", "state"]
    phase: Literal["resolve", "fetch", "lock", "download", "layers", "push"] | None = None
    message: str = ""
    done: int = Field(default=0, description="bytes")
    total: int = Field(default=0, description="bytes; 0: not known")
    seconds: float = Field(default=0.0, description="how long the phase took, at its end")
    state: State | None = None
    position: int = 0
    attempt: int = 1
    image: str = ""
    digest: str = ""
    env_id: str = ""


class LaunchEventDocument(Answer):
    """An event of a launch; `ready` and `failed` are the last."""

    kind: Literal["message", "ready", "failed"]
    message: str
    progress: int = Field(description="of 100")
    url: str = Field(description="the server's address, which ends in `/`; of `ready`")
    token: str = Field(description="what lets into a temporary server; empty where people log in")
    status: int = Field(description="the HTTP status that a failure amounts to")
    path: str = Field(description="what to open, relative to the server's address")


class LaunchDocument(Answer):
    """A notebook server that was asked for."""

    id: str
    state: Literal["starting", "ready", "failed", "stopped"]
    server: str = Field(description="its path below the site's address, with `/` at both ends")
    image: str
    digest: str
    env_id: str
    path: str = Field(description="what to open, relative to the server's address")
    events: str

    @classmethod
    def of(cls, launch: Launch, parameters: LaunchParameters) -> LaunchDocument:
        """Return a launch with what is to be opened in it."""
        names = ("id", "state", "image", "digest", "env_id")
        return cls(
            **{name: getattr(launch, name) for name in names},
            server=launch.path,
            path=parameters.path,
            events=f"/api/launches/{launch.id}/events"
            + (f"?path={quote(parameters.path, safe='')}" if parameters.path else ""),
        )


class ServerDocument(Answer):
    """One of the principal's notebook servers."""

    id: str
    state: Literal["starting", "ready", "failed", "stopped"]
    url: str = Field(description="its path below the site's address, with `/` at both ends")
    image: str
    digest: str
    env_id: str
    repo: str
    ref: str
    commit: str
    provider: str
    spec: str
    created: datetime
    message: str
    resumable: bool
    events: str

    @classmethod
    def of(cls, launch: Launch) -> ServerDocument:
        """Return a launch as an entry of "my servers"."""
        names = ("id", "state", "image", "digest", "env_id", "repo", "ref", "commit", "provider", "spec", "message")
        return cls(
            **{name: getattr(launch, name) for name in names},
            url=launch.path,
            created=time_of(launch.created),
            resumable=launch.resumable,
            events=f"/api/launches/{launch.id}/events",
        )


class ImageUseDocument(Answer):
    """An image that was launched here."""

    repo: str
    ref: str
    commit: str
    provider: str
    spec: str
    digest: str
    bytes: int
    launches: int
    last_launched: datetime
    shared_by: int = Field(description="how many people launched it")

    @classmethod
    def of(cls, use: ImageUse) -> ImageUseDocument:
        """Return an image's use."""
        names = ("repo", "ref", "commit", "provider", "spec", "digest", "bytes", "launches", "shared_by")
        return cls(**{name: getattr(use, name) for name in names}, last_launched=time_of(use.last_launched))


class ImageDocument(Answer):
    """An image that is built: its record."""

    image: str
    digest: str
    env_id: str
    image_id: str
    repo: str
    ref: str
    commit: str
    created: str
    reproducible: bool
    base: dict[str, str]
    packages: dict[str, int]
    bytes: dict[str, int]
    layers: list[dict[str, Any]]


class BaseDocument(Answer):
    """A base image of the site's catalogue."""

    name: str
    title: str
    description: str
    python: str
    default: bool


class PastedDocument(Answer):
    """What a pasted text means."""

    provider: str
    provider_name: str
    spec: str
    path: str = Field(description="a file or directory in the repository, or empty")
    launch: str = Field(description="the page that builds and launches it")


class CredentialDocument(Answer):
    """A git host that a token is kept for."""

    id: str
    host: str
    created: datetime


class ErrorDetail(Answer):
    """What went wrong, in one sentence."""

    status: int
    message: str
    request_id: str


class ErrorDocument(Answer):
    """The body of every answer with a status of 400 and above."""

    error: ErrorDetail


def time_of(seconds: float) -> datetime:
    """Return seconds since 1970 as a time in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)
