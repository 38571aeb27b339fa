"""Which package index is asked when the site names none: uv's own default, as uv says it."""

from __future__ import annotations

import functools
import subprocess

from builder.sources.errors import SourceBuildError


@functools.cache
def default_index() -> str:
    """Return the address of uv's default index (PEP 503), so that every package comes from one place."""
    from uv import find_uv_bin

    options = ("--no-config", "--quiet", "--offline", "--no-header", "--emit-index-url")
    done = subprocess.run(
        [str(find_uv_bin()), "pip", "compile", "-", *options], input="", capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        option, _, url = line.partition(" ")
        if option in ("--index-url", "--default-index") and url.startswith("https://"):
            return url.strip()
    raise SourceBuildError("uv does not say what its default package index is; set `package_index` in site.yaml")
