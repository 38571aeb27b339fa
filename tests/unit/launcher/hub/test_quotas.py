from __future__ import annotations

import pytest

from launcher.hub.quotas import Running, check_quotas, repository_limit
from launcher.refusal import RefusedError
from launcher.site_config import Launches, Quota

REPO = "https://github.com/Team/AGC.git"


def refusal(running: Running, **allowed: object) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        check_quotas(REPO, running, Launches.model_validate(allowed))
    return caught.value


def test_zero_is_no_limit() -> None:
    check_quotas(REPO, Running(10**6, 10**6, 10**6), Launches(total=0, per_user=0, per_repository=0))


def test_as_many_as_are_allowed_are_started() -> None:
    check_quotas(REPO, Running(9, 4, 2), Launches(total=10, per_user=5, per_repository=3))


def test_each_limit_has_its_sentence() -> None:
    error = refusal(Running(10, 0, 0), total=10)
    assert (error.status, error.retry_after > 0, "all 10 places" in str(error)) == (429, True, True)
    error = refusal(Running(5, 5, 0), per_user=5)
    assert (error.status, error.retry_after) == (429, 0)
    assert str(error) == "you have 5 notebook servers, and more than 5 are not allowed: stop one"
    assert "3 people use github.com/team/agc now" in str(refusal(Running(3, 0, 3), per_repository=3))


def test_the_last_pattern_that_fits_decides() -> None:
    quotas = (
        Quota(pattern="github.com/*", servers=1),
        Quota(pattern="github.com/team/*", servers=20),
        Quota(pattern="gitlab.com/*", servers=5),
    )
    allowed = Launches(per_repository=3, quotas=quotas)
    assert repository_limit(REPO, allowed) == 20
    assert repository_limit("https://github.com/other/repo", allowed) == 1
    assert repository_limit("https://example.org/x", allowed) == 3
