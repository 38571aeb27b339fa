"""What a build makes in the engine says whose it is."""

from __future__ import annotations

from builder.container.engine import ContainerLimits
from builder.container.step import BUILD_LABEL, LABEL, labels


def test_a_build_with_a_name_puts_it_on_what_it_makes() -> None:
    (ends,) = labels(ContainerLimits())
    assert ends.startswith(f"--label={LABEL}=")
    assert labels(ContainerLimits(build="job7"))[1:] == [f"--label={BUILD_LABEL}=job7"]
