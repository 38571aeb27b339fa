"""``POST /api/webhooks/...``: a push at GitHub or GitLab is built before anybody clicks, below what people wait for.

Nobody logs in here: a message shows that it comes from whom the site shares a secret with. Then it is read, and built
if the site's lists have its repository and branch, as the launch page would build that commit. A message that began
or found a build is not taken again; GitHub does not sign the number of a delivery, so it is the message itself that is
known again, by its hash.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from builder.providers.known import parse_spec
from builder.repository.spec import RepositoryError
from launcher.jobs.model import PREBUILD, Asked
from launcher.refusal import RefusedError
from launcher.security.principal import Principal
from launcher.security.shared_secret import read_secret, same, signed
from launcher.service.audit import about
from launcher.service.models import Answer, JobDocument
from launcher.service.openapi import ApiHandler, Operation, methods
from launcher.service.pasted import with_ref
from launcher.service.responses import first_problem
from launcher.service.webhook_events import GitHubPush, GitLabPush, Push, RegistryNotification, lets_in, push_of

if TYPE_CHECKING:
    from launcher.service.base import BaseHandler

OWNER = Principal("service", "webhook")
BODY_BYTES = 2**20

_Model = TypeVar("_Model", bound=BaseModel)


class WebhookDocument(Answer):
    """What became of a message: the builds that it began or found."""

    message: str
    builds: list[JobDocument]


class WebhookHandler(ApiHandler):
    """A webhook that shares the secret ``kind`` with the site."""

    public = True
    body_limit = BODY_BYTES
    kind: ClassVar[Literal["github", "gitlab", "registry"]]
    what: ClassVar[str]

    async def proven(self) -> None:
        """Refuse what does not come from whom the site shares the secret with."""
        self.services.authentication.refuse_banned(self.address)
        hook = getattr(self.services.site.service.webhooks, self.kind)
        if hook is None:
            raise RefusedError(f"this service takes no webhooks of {self.what}", 404)
        if len(self._body) > BODY_BYTES:
            raise RefusedError(f"the message is larger than {BODY_BYTES // 1024} kB", 413)
        if not self.shows(await asyncio.to_thread(read_secret, hook.secret)):
            raise RefusedError(f"the message is not signed with the secret that {self.what} shares with this site", 403)

    def shows(self, secret: bytes) -> bool:
        """Say whether the request proves that its sender knows the secret."""
        raise NotImplementedError

    def said(self, model: type[_Model]) -> _Model:
        """Return the message; raise :class:`RefusedError` naming what is wrong with it."""
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise RefusedError("let the webhook send JSON (content type application/json)", 415)
        try:
            return model.model_validate_json(self._body)
        except ValidationError as error:
            raise RefusedError(f"the message can't be used: {first_problem(error)}") from error

    def answer(self, message: str, jobs: list[JobDocument], status: int = 200) -> None:
        """Answer with what became of the message."""
        self.finish_json(WebhookDocument(message=message, builds=jobs), status)


class PushHandler(WebhookHandler):
    """A webhook of a git host: ``event`` is the header that names what happened and its value for a push, ``number``
    the header with the sender's number of the message."""

    said_as: ClassVar[type[GitHubPush | GitLabPush]]
    event: ClassVar[tuple[str, str]]
    number: ClassVar[str]

    async def post(self) -> None:
        """Build the commit that was pushed."""
        await self.proven()
        said = self.said(self.said_as)
        header, push = self.event
        happened = self.request.headers.get(header, push)
        await self.build(push_of(said) if happened == push else None, self.request.headers.get(self.number, ""))

    async def build(self, push: Push | None, delivery: str) -> None:
        """Build a push and answer; ``delivery`` is the sender's number of the message."""
        if push is None:
            self.answer("this is no push of a branch: there is nothing to build", [])
            return
        webhooks = self.services.site.service.webhooks
        try:
            pasted = self.services.desk.pasted(push.url)
            asked = Asked(pasted.provider, with_ref(pasted, push.commit))
            url = parse_spec(asked.provider, asked.spec, self.services.context.facility.fetching.hosts).url
        except RepositoryError as error:
            raise RefusedError(str(error)) from error
        if not lets_in(webhooks, push, url):
            raise RefusedError("this site builds no pushes of this repository and branch", 403)
        names = [f"{self.kind}:{sha256(self._body).hexdigest()}"]
        names += [f"{self.kind}:number:{sha256(delivery.encode()).hexdigest()}"] if delivery else []
        remembered = self.services.deliveries
        if not await asyncio.to_thread(remembered.take, names, self.now(), webhooks.remember_seconds):
            raise RefusedError("this message was taken before", 409)
        try:
            job = await self.services.desk.submit(asked, OWNER, priority=PREBUILD)
        except BaseException:  # it began nothing, so it may be sent again
            await asyncio.to_thread(remembered.forget, names)
            raise
        if not job.ended:
            self.services.runner.wake()
        self.services.audit.write(about("build", job, OWNER, self.request.headers), self.now())
        message = "it is built already" if job.ended else "it will be built"
        self.answer(message, [JobDocument.of(job, OWNER)], 200 if job.ended else 202)


class GitHubHandler(PushHandler):
    """``/api/webhooks/github``."""

    kind = "github"
    what = "GitHub"
    said_as = GitHubPush
    event = ("X-GitHub-Event", "push")
    number = "X-GitHub-Delivery"
    operations = methods(
        post=Operation(
            "A push at GitHub, signed with HMAC-SHA256: build it",
            {200: WebhookDocument, 202: WebhookDocument},
            body=GitHubPush,
            headers={
                "X-Hub-Signature-256": "`sha256=` and the HMAC of the body",
                "X-GitHub-Event": "`push`; others are answered and not acted upon",
                "X-GitHub-Delivery": "the number of the delivery",
            },
            errors=(404, 409, 429, 502),
        )
    )

    def shows(self, secret: bytes) -> bool:
        """Check the HMAC of the body."""
        return signed(secret, self._body, self.request.headers.get("X-Hub-Signature-256", ""))


class GitLabHandler(PushHandler):
    """``/api/webhooks/gitlab``."""

    kind = "gitlab"
    what = "GitLab"
    said_as = GitLabPush
    event = ("X-Gitlab-Event", "Push Hook")
    number = "Idempotency-Key"
    operations = methods(
        post=Operation(
            "A push at GitLab, with the secret token: build it",
            {200: WebhookDocument, 202: WebhookDocument},
            body=GitLabPush,
            headers={
                "X-Gitlab-Token": "the secret token",
                "X-Gitlab-Event": "`Push Hook`; others are answered and not acted upon",
                "Idempotency-Key": "the number of the delivery",
            },
            errors=(404, 409, 429, 502),
        )
    )

    def shows(self, secret: bytes) -> bool:
        """Check the token."""
        return same(secret, self.request.headers.get("X-Gitlab-Token", ""))


class RegistryHandler(WebhookHandler):
    """``/api/webhooks/registry``."""

    kind = "registry"
    what = "the registry"
    operations = methods(
        post=Operation(
            "Something was pushed to the registry: after a base of this site, look at what is to be pre-built",
            {200: WebhookDocument},
            body=RegistryNotification,
            headers={"Authorization": "the secret, with or without `Bearer ` before it"},
            errors=(404,),
        )
    )

    def shows(self, secret: bytes) -> bool:
        """Check the header, which Distribution sends as it is told, and Harbor too."""
        return same(secret, self.request.headers.get("Authorization", "").removeprefix("Bearer "))

    async def post(self) -> None:
        """Begin a round of pre-builds. One too many does no harm: what is built is left alone."""
        await self.proven()
        pushed = self.said(RegistryNotification).pushed()
        prebuilds = self.services.prebuilds
        names = await asyncio.to_thread(self.services.context.base_tags)
        ours = names & pushed
        if ours:
            await asyncio.to_thread(self.services.desk.ask_again, {repository for repository, _ in ours})
        if not ours:
            self.answer("no base of this site was pushed: there is nothing to do", [])
        elif not prebuilds.wanted:
            self.answer("a base was pushed, and this site states nothing to pre-build", [])
        else:
            prebuilds.nudge()
            self.answer("a base was pushed: what is to be pre-built is looked at", [])


ROUTES: list[tuple[str, type[BaseHandler]]] = [
    (r"/api/webhooks/github", GitHubHandler),
    (r"/api/webhooks/gitlab", GitLabHandler),
    (r"/api/webhooks/registry", RegistryHandler),
]
