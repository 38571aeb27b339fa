"""Makes XRootD's client log in anew after a token has changed.

The client keeps one connection to a server and shows its token only when it connects. A server that checks tokens
(``XrdAccSciTokens``) refuses that connection everything once *that* token has ended, whatever is in the token's file by
then; a worker that is never idle for five minutes would never connect again (``XrdClXRootDTransport.cc``,
``IsStreamTTLElapsed``). The client makes another connection for another user name in the URL, also to where it is
redirected (``XrdClXRootDMsgHandler.cc``). So after a change what is opened without a name gets one, ``t<number>``: a
label for the servers' monitoring, since the token says who it is. Files that are open stay as they are.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import Any

_ADDRESS = re.compile(r"^(roots?|xroots?)://(?=[^@/]+(/|$))")
_login = ""


def connect_anew(number: int) -> None:
    """Let what is opened from now on use connections of its own; does nothing where no XRootD client is imported."""
    global _login  # the client's connections are the process' as well
    client = sys.modules.get("XRootD.client")
    if client is None:
        return
    _login = f"t{number % 10**6}"
    _label_addresses(client)
    filesystem = getattr(sys.modules.get("fsspec_xrootd"), "XRootDFileSystem", None)
    if filesystem is not None:  # those that it keeps have their address already
        filesystem.clear_instance_cache()


def labelled(url: Any) -> Any:
    """Return the URL with the present label as its user, unless it names one."""
    return _ADDRESS.sub(rf"\g<1>://{_login}@", url) if _login and isinstance(url, str) else url


@functools.cache
def _label_addresses(client: Any) -> None:
    opening, making = client.File.open, client.FileSystem.__init__

    @functools.wraps(opening)
    def open_labelled(file: Any, url: Any, *arguments: Any, **options: Any) -> Any:
        return opening(file, labelled(url), *arguments, **options)

    @functools.wraps(making)
    def make_labelled(filesystem: Any, url: Any) -> None:
        making(filesystem, labelled(url))

    client.File.open, client.FileSystem.__init__ = open_labelled, make_labelled
