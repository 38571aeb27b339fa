"""Images as Apptainer runs them, an unpacked directory or a SIF, at the same path on all nodes of all pools.

They are in one volume of the engine and kept under the digest of their image; of those used longest ago only some are
kept. ``casabinder unpack`` makes the directories, Apptainer in a container the SIF files of them. As with CVMFS, the
nodes see them below ``/cvmfs`` and may only read.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from builder.container.engine import docker, docker_bytes
from launcher.cli import main
from registry_sync.machine_lock import machine_lock
from tests.testbed.condor.image import pool_image

if TYPE_CHECKING:
    from builder.record import ImageRecord

IMAGES_VOLUME = "casabinder-test-pool-images"
IMAGES_INSIDE = "/cvmfs/testbed"
_KEPT = 4  # images
_SECONDS = 900.0
# $1: the volume's place, $2: an image's name there.
_PACK = """
set -e
cd "$1/$2"
if [ ! -e image.sif ]; then
  rm -f new.sif
  apptainer --quiet build --mksquashfs-args "-comp zstd -Xcompression-level 1" new.sif root
  chmod 644 new.sif
  mv new.sif image.sif
fi
"""


def unpacked(image: ImageRecord) -> str:
    """Return the directory of an image of the site's registry on the nodes; it is made the first time."""
    name = f"root-{image.digest.partition(':')[2]}"
    with machine_lock(IMAGES_VOLUME):
        docker("volume", "create", IMAGES_VOLUME)
        volume = Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", IMAGES_VOLUME).strip())
        if not (volume / name / "root").exists():
            newest = sorted(volume.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in newest[_KEPT - 1 :]:
                shutil.rmtree(old)
            shutil.rmtree(volume / name, ignore_errors=True)
            (volume / name).mkdir(mode=0o755)
            assert main(["unpack", image.image, str(volume / name / "root"), "--json"]) == 0
        (volume / name).touch()
    return f"{IMAGES_INSIDE}/{name}/root"


def sif(image: ImageRecord) -> str:
    """Return the path of an image as a SIF on the nodes; it is made, of the unpacked one, the first time."""
    root = unpacked(image)
    _run(_PACK, root.split("/")[-2])
    return f"{root.rpartition('/')[0]}/image.sif"


def _run(script: str, *arguments: str) -> None:
    volume = ["-v", f"{IMAGES_VOLUME}:{IMAGES_INSIDE}"]
    # Apptainer makes a name space of its own, in which it unpacks.
    rights = [
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "systempaths=unconfined",
        "--cap-add",
        "SYS_ADMIN",
    ]
    command = ["sh", "-c", script, "sh", IMAGES_INSIDE, *arguments]
    with machine_lock(IMAGES_VOLUME):
        docker("volume", "create", IMAGES_VOLUME)
        docker_bytes("run", "--rm", "--network=host", *volume, *rights, pool_image(), *command, seconds=_SECONDS)
