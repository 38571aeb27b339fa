"""What lives inside every casabinder image.

The package is installed in both environments of an image and each side imports only what it has: the notebook server's
has ``jupyter_server``, the analysis environment has ``distributed``. That is why the public name is loaded when asked
for:

>>> from casabinder_runtime import FacilityCluster  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casabinder_runtime.cluster import FacilityCluster

__all__ = ["FacilityCluster"]


def __getattr__(name: str) -> Any:
    if name == "FacilityCluster":
        from casabinder_runtime.cluster import FacilityCluster

        return FacilityCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
