"""Makes the texts of a wheel's scripts: launchers for its entry points, and shebangs that name the image's Python.

The texts are those of PyPA's ``installer``, which the tests compare with. Source: the entry points and the wheel
("Installing a wheel") specifications on packaging.python.org.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass

from builder.layers.errors import LayerError

PYTHON_SHEBANG = b"#!python"
"""What the scripts start with whose first line is to name the Python they are installed for."""

_OBJECT = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<attrs>[\w.]+)\s*(\[.*\])?\s*")
_LAUNCHER = """\
#!{interpreter}
# -*- coding: utf-8 -*-
import re
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
    sys.exit({attrs}())
"""


@dataclass(frozen=True)
class EntryPoint:
    """One script of ``console_scripts`` or ``gui_scripts``: file name, module, and the function in it (``main``)."""

    script: str
    module: str
    attrs: str

    def launcher(self, interpreter: str) -> bytes:
        """Return the script's text; ``interpreter`` is the path of the image's Python."""
        name = self.attrs.split(".")[0]
        return _LAUNCHER.format(interpreter=interpreter, module=self.module, name=name, attrs=self.attrs).encode()


def parse_entry_points(text: str, where: str) -> list[EntryPoint]:
    """Return the scripts that an ``entry_points.txt`` declares, in its order.

    ``where`` names the wheel in messages. Raises :class:`LayerError` for a file that is none, for an object that is
    not ``module:function``, and for a script name that is not a plain file name.
    """
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise LayerError(f"{where}: entry_points.txt cannot be read ({type(error).__name__})") from error
    found = []
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            match = _OBJECT.fullmatch(value or "")
            if not match:
                raise LayerError(f"{where}: the entry point {name!r} is {value!r} and not module:function")
            if "/" in name or "\\" in name or name in ("", ".", ".."):
                raise LayerError(f"{where}: the entry point {name!r} is not a file name")
            found.append(EntryPoint(name, match["module"], match["attrs"]))
    return found


def fix_shebang(script: bytes, interpreter: str) -> bytes:
    """Return ``script`` with a first line that starts with ``#!python`` replaced by one that names ``interpreter``."""
    if not script.startswith(PYTHON_SHEBANG):
        return script
    _, _, rest = script.partition(b"\n")
    return b"#!" + interpreter.encode() + b"\n" + rest
