"""Finds a project's version where it stands as text: ``__version__ = "1.2"`` in a module, or in a file."""

from __future__ import annotations

import ast
import re
import warnings

from builder.environment.files import Files, decode, inside, join

_PATTERN = re.compile(r"""(?im)^(?:__version__|VERSION)(?:\s*:\s*str)?\s*=\s*['"]v?([^'"\n]{1,100})['"]""")


def version_of_attribute(files: Files, roots: tuple[str, ...], attribute: str) -> str | None:
    """Return the text that ``attribute`` (``package.module.__version__``, setuptools' ``attr:``) is assigned, looked
    for below ``roots``, or ``None`` if that can't be seen without running code."""
    module, _, name = attribute.strip().rpartition(".")
    if not module or not re.fullmatch(r"[\w.]+", module):
        return None
    relative = module.replace(".", "/")
    for root in roots:
        for candidate in (f"{relative}.py", f"{relative}/__init__.py"):
            path = inside(root, candidate)
            content = files.read(path) if path else None
            if content is not None:
                return _assigned(content, name)
    return None


def version_in_file(files: Files, directory: str, stated: str) -> str | None:
    """Return what ``__version__ = "..."`` says in a file (hatch's ``path``, pdm's ``source = "file"``), or ``None``."""
    path = inside(directory, stated)
    content = files.read(path) if path else None
    match = _PATTERN.search(content.decode("utf-8", "replace")) if content else None
    return match[1] if match else None


def text_of_file(files: Files, directory: str, stated: str) -> str | None:
    """Return the whole text of a file (setuptools' ``file:``), or ``None``."""
    path = inside(directory, stated)
    content = files.read(path) if path else None
    return decode(content, path or "").strip() if content is not None else None


def version_of_module(files: Files, directory: str, roots: tuple[str, ...], module: str) -> str | None:
    """Return a module's own ``__version__`` (flit), or ``None``."""
    return version_of_attribute(files, (*roots, directory, join(directory, "src")), f"{module}.__version__")


def _assigned(content: bytes, name: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the repository's own doubtful escapes
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and target.id == name and isinstance(value, ast.Constant):
                return value.value if isinstance(value.value, str) else None
    return None
