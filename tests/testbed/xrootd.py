"""Real XRootD servers on free loopback ports, which serve one directory read-only: to anybody, or to who has a token.

A server that demands a token speaks ``root://`` over TLS only (``ztn``), takes SciTokens of one issuer, and lets their
bearers read what the token's scope says: the paths in it are relative to the directory.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.testbed.free_port import free_port
from tests.testbed.host_certificate import host_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.scitokens import Issuer

START_SECONDS = 20.0
_TRIES = 3


@dataclass(frozen=True)
class TokenServer:
    """A server that demands a token: the URL to append file names to, and the authority of its certificate."""

    url: str
    ca: Path
    log_file: Path

    def log(self) -> str:
        """Return what the server has said."""
        return self.log_file.read_text(errors="replace")


@contextmanager
def running_xrootd(directory: Path) -> Iterator[str]:
    """Serve ``directory`` and yield its URL, ``root://127.0.0.1:<port>/<path>/``: append a file's name to it."""
    with _place() as work, _running(work, directory, "", {}) as port:
        yield f"root://127.0.0.1:{port}/{directory}/"


@contextmanager
def running_xcache() -> Iterator[tuple[str, Path]]:
    """Run an XCache for any origin (``root://CACHE//root://ORIGIN//PATH``); yield its address and what it keeps."""
    with _place() as work:
        kept = work / "cache"
        kept.mkdir()
        settings = (
            "all.export /root:/\n"
            "ofs.osslib libXrdPss.so\n"
            "pss.origin =\n"
            "pss.cachelib default\n"
            f"oss.localroot {kept}\n"
            "pfc.ram 1g\n"
            "pfc.diskusage 0.98 0.99\n"
        )
        with _running(work, kept, settings, {}) as port:
            yield f"127.0.0.1:{port}", kept


@contextmanager
def running_token_xrootd(directory: Path, issuer: Issuer, certificates: Path) -> Iterator[TokenServer]:
    """Serve ``directory`` to bearers of tokens of ``issuer``; the certificates are made below ``certificates`` once."""
    ca, certificate, key = host_certificate(certificates)
    with _place() as work:
        issuer.make_known(work / "cache")
        shutil.copy(certificate, work / "host.pem")
        shutil.copy(key, work / "host.key")
        (work / "host.key").chmod(0o400)
        (work / "scitokens.cfg").write_text(
            f"[Global]\nonmissing = deny\n[Issuer testbed]\nissuer = {issuer.address}\nbase_path = {directory}\n"
        )
        settings = (
            f"xrd.tls {work}/host.pem {work}/host.key\n"
            "xrd.tlsca noverify\n"
            "xrootd.tls capable all\n"
            "xrootd.seclib libXrdSec.so\n"
            "sec.protocol ztn\n"
            "sec.protbind * only ztn\n"
            "ofs.authorize 1\n"
            f"ofs.authlib libXrdAccSciTokens.so config={work}/scitokens.cfg\n"
        )
        with _running(work, directory, settings, {"XDG_CACHE_HOME": f"{work}/cache"}) as port:
            log = next(path for path in work.rglob("xrootd.log") if path.is_file())
            yield TokenServer(f"root://localhost:{port}/{directory}/", ca, log)


@contextmanager
def _place() -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="xrootd-"))
    try:
        yield work
    finally:
        shutil.rmtree(work)


@contextmanager
def _running(work: Path, directory: Path, settings: str, environment: dict[str, str]) -> Iterator[int]:
    """Run a server whose files are all in ``work`` and yield its port."""
    for _ in range(_TRIES):
        port = free_port()
        process = _start(work, directory, port, settings, environment)
        try:
            if _listens(process, port):
                yield port
                return
        finally:
            process.terminate()
            process.wait(20)
    logs = "".join(path.read_text(errors="replace") for path in work.rglob("xrootd.log"))
    raise RuntimeError(f"xrootd does not listen on port {port}:\n{logs}")


def _start(
    work: Path, directory: Path, port: int, settings: str, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a server; as root, which it refuses to run as, in the name of a user who must be able to read the files."""
    user = _other_user() if os.geteuid() == 0 else None
    config = work / "xrootd.cfg"
    config.write_text(
        f"all.export {directory} r/o\n"
        f"xrd.port {port}\n"
        "xrd.network nodnr norpipa\n"
        f"all.adminpath {work}\n"
        f"all.pidpath {work}\n"
        f"{settings}"
    )
    if user is not None:
        for path in (work, *work.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return subprocess.Popen(
        ["xrootd", "-c", str(config), "-l", str(work / "xrootd.log"), "-n", "testbed"],
        cwd=work,
        env={**os.environ, **environment},
        user=None if user is None else user.pw_uid,
        group=None if user is None else user.pw_gid,
        extra_groups=None if user is None else [],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _other_user() -> pwd.struct_passwd:
    for name in ("xrootd", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("there is neither a user xrootd nor nobody to run xrootd as")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server itself listens; return ``False`` if it has ended, or does not come to it."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psutil.Error):
            for one in psutil.Process(process.pid).net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN and one.laddr.port == port:
                    return True
        time.sleep(0.1)
    return False
