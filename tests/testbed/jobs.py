"""Requests, jobs and records of builds as tests need them: by what matters, the rest made up."""

from __future__ import annotations

import hashlib
from typing import Any

from launcher.jobs.model import Asked, BuildRequest, Job

NOW = 1_800_000_000.0


def request(repo: str = "https://git.example.org/team/repo", commit: str = "a" * 40) -> BuildRequest:
    """Return the request for a commit of a repository."""
    return BuildRequest(Asked("git", f"{repo}/HEAD"), repo, "HEAD", commit)


def key(text: str) -> str:
    """Return a job's key."""
    return hashlib.sha256(text.encode()).hexdigest()


def waiting(job_id: str, owner: str, repo: str, *, created: float = NOW, priority: int = 0) -> Job:
    """Return a queued job."""
    return Job(job_id, key(job_id), "queued", request(repo), owner, created, priority=priority)


def record(digest: str = "d" * 64) -> dict[str, Any]:
    """Return what the store reads of an image's record."""
    return {"image": "registry.test/repo:0123456789abcdef", "digest": f"sha256:{digest}", "env_id": "fedcba9876543210"}
