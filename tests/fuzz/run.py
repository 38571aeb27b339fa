"""Fuzzes the wheel reader for a stated time: with atheris (coverage-guided) where it is installed, else at random.

    python -m tests.fuzz.run SECONDS [DIRECTORY]

Inputs that fail are left in DIRECTORY (``.fuzz``), where the corpus grows, too.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def main(arguments: list[str]) -> int:
    """Run for ``arguments[0]`` seconds; 0 when nothing was found."""
    seconds = int(arguments[0])
    directory = Path(arguments[1] if len(arguments) > 1 else ".fuzz")
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    guided = importlib.util.find_spec("atheris") is not None
    return (_guided if guided else _at_random)(seconds, directory)


def _fill(corpus: Path, wheels: Iterable[bytes]) -> None:
    for wheel in wheels:
        (corpus / hashlib.sha256(wheel).hexdigest()[:16]).write_bytes(wheel)


def _guided(seconds: int, directory: Path) -> int:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["builder", "zipfile", "configparser", "csv"]):
        from tests.fuzz.wheels import mutate, read_as_layer, seeds
    _fill(directory / "corpus", seeds())

    def change(data: bytes, largest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        changed = mutate(data, chance) if chance.random() < 0.7 else atheris.Mutate(data, largest)
        return bytes(changed[:largest])

    options = [f"-max_total_time={seconds}", "-max_len=16384", f"-artifact_prefix={directory}/", "-timeout=20"]
    atheris.Setup(
        ["fuzz", *options, str(directory / "corpus")], lambda data: read_as_layer(data) and None, custom_mutator=change
    )
    atheris.Fuzz()
    return 0


def _at_random(seconds: int, directory: Path) -> int:
    from tests.fuzz.wheels import mutate, read_as_layer, seeds

    _fill(directory / "corpus", seeds())
    chance = random.Random()
    known = [path.read_bytes() for path in sorted((directory / "corpus").iterdir())]
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = mutate(chance.choice(known), chance)
        count += 1
        try:
            read_as_layer(data)
        except BaseException:
            (directory / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise
    sys.stdout.write(f"{count} wheels, none of which got through\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
