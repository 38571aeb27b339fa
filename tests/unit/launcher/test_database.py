"""Opening the database: what is refused, what SQLite's file is like, readers that do not wait."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

import launcher.jobs.schema  # noqa: F401 - declares tables
from launcher.database import open_database, reading
from launcher.site_config import Service
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path


def test_sqlite_is_below_the_cache_and_for_its_owner_alone(tmp_path: Path) -> None:
    for _ in range(2):
        engine = open_database(Service(), tmp_path)
        with engine.begin() as writer, reading(engine) as reader:
            writer.execute(text("DELETE FROM jobs"))
            assert reader.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert reader.execute(text("SELECT count(*) FROM jobs")).scalar() == 0
        for file in (tmp_path / "service").iterdir():
            if file.suffix != ".lock":
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
        engine.dispose()
    assert stat.S_IMODE((tmp_path / "service").stat().st_mode) == 0o700


def test_a_file_that_the_site_states(tmp_path: Path) -> None:
    engine = open_database(Service(database=f"sqlite:///{tmp_path}/elsewhere/jobs.db"), tmp_path / "cache")
    engine.dispose()
    assert (tmp_path / "elsewhere" / "jobs.db").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("no url", "no SQLAlchemy URL"),
        ("postgresql://me:secret@host/name", "holds a password"),
        ("mysql://me@host/name", "is mysql"),
        ("sqlite://", "names no file"),
        ("sqlite:////proc/nowhere/jobs.db", "can't be opened"),
        ("postgresql://me@127.0.0.1:1/name", "can't be opened"),
    ],
)
def test_what_is_refused(url: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(CasabinderError, match=says) as caught:
        open_database(Service(database=url), tmp_path)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "password"
    service = Service(database="postgresql://me@127.0.0.1:1/name", database_password=file)
    with pytest.raises(CasabinderError, match="can't be read"):
        open_database(service, tmp_path)
    file.write_text("secret")
    file.chmod(0o604)
    with pytest.raises(CasabinderError, match="can be read by others"):
        open_database(service, tmp_path)
    file.chmod(0o600)
    with pytest.raises(CasabinderError, match="can't be opened") as caught:
        open_database(service, tmp_path)
    assert "secret" not in str(caught.value)
