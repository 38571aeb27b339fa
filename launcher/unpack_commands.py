"""``casabinder unpack``: an image as a directory, for nodes that run it with Apptainer."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from builder.attachments.location import locate
from registry_sync.unpack import APPTAINER, unpack_image

if TYPE_CHECKING:
    from argparse import Namespace

    from launcher.context import Context


def unpack(context: Context, arguments: Namespace) -> int:
    """Unpack the image and say where it is."""

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{'unpack':<9} {done} of {total} layers", end="" if done < total else "\n", file=sys.stderr)

    directory = arguments.directory.absolute()
    with locate(arguments.image, context.facility) as location:
        unpack_image(location.store, location.repository, location.manifest, directory, progress, programs=APPTAINER)
    if arguments.json:
        print(json.dumps({"image": arguments.image, "digest": location.digest, "directory": str(directory)}, indent=2))
    else:
        print(f"{location} is in {directory}")
    return 0
