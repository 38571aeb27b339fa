"""Git's credential helper: reads a token from a file and prints it to git, for one host only.

Git runs it as ``python credential.py FILE HOST get`` with the request on standard input (``gitcredentials(7)``). It
is a script without imports of this project, so that it starts in a few milliseconds. The file was checked before git
started (fetching.py); here its mode is looked at once more.
"""

import os
import sys


def main(arguments: list[str], request: str) -> str:
    """Return the answer to git: user name and password, or nothing for another host or another question."""
    file, host, question = arguments
    asked = dict(line.split("=", 1) for line in request.splitlines() if "=" in line)
    if question != "get" or asked.get("host") != host:
        return ""
    with open(file, encoding="utf-8") as stream:  # noqa: PTH123 - pathlib alone takes longer to import than the rest
        if os.fstat(stream.fileno()).st_mode & 0o077:
            return ""
        text = stream.read().strip()
    user, separator, token = text.partition(":")
    if not separator:
        user, token = "oauth2", text
    return f"username={user}\npassword={token}\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:], sys.stdin.read()))
