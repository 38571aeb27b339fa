"""Where a launch comes from, in BinderHub's words: the page, the request, and the request that means this commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.providers.known import parse_spec
from launcher.hub.launch import Origin
from launcher.service.binder_links import persistent_spec, ref_url

if TYPE_CHECKING:
    from launcher.jobs.model import Asked, Job
    from launcher.service.base import BaseHandler


def launch_origin(handler: BaseHandler, asked: Asked, job: Job, address: str) -> Origin:
    """Return the origin of a launch of what ``job`` has built.

    ``asked`` is what this client asked for: a job that was found may have been asked for under another spec before.
    ``address`` is the client's.
    """
    commit = job.request.commit
    stated = persistent_spec(asked.provider, asked.spec, parse_spec(asked.provider, asked.spec).ref, commit)
    return Origin(
        launch_host=f"{handler.origin}/",
        request=f"v2/{asked.provider}/{asked.spec}",
        persistent_request=f"v2/{asked.provider}/{stated}",
        client_ip=address,
        ref_url=ref_url(asked.provider, job.request.repo, commit),
    )
