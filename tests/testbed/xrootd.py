"""A real XRootD server on a free loopback port, which serves one directory read-only to anybody."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 20.0


@contextmanager
def running_xrootd(directory: Path) -> Iterator[str]:
    """Serve ``directory`` and yield its URL, ``root://127.0.0.1:<port>/<path>/``: append a file's name to it.

    xrootd refuses to run as root; root runs it as the user xrootd or nobody, who must be able to read the files.
    """
    port = _free_port()
    user = _other_user() if os.geteuid() == 0 else None
    work = Path(tempfile.mkdtemp(prefix="xrootd-"))
    try:
        if user is not None:
            os.chown(work, user.pw_uid, user.pw_gid)
        config = work / "xrootd.cfg"
        config.write_text(
            f"all.export {directory} r/o\n"
            f"xrd.port {port}\n"
            "xrd.network nodnr norpipa\n"
            f"all.adminpath {work}\n"
            f"all.pidpath {work}\n"
        )
        process = subprocess.Popen(
            ["xrootd", "-c", str(config), "-l", str(work / "xrootd.log"), "-n", "testbed"],
            cwd=work,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_listens(process, port, work)
            yield f"root://127.0.0.1:{port}/{directory}/"
        finally:
            process.terminate()
            process.wait(20)
    finally:
        shutil.rmtree(work)


def _other_user() -> pwd.struct_passwd:
    for name in ("xrootd", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("there is neither a user xrootd nor nobody to run xrootd as")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, work: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                logs = "".join(path.read_text(errors="replace") for path in work.rglob("xrootd.log"))
                raise RuntimeError(f"xrootd does not listen on port {port}:\n{logs}") from None
            time.sleep(0.1)
