"""``site.yaml``: where it is found, what it says, and what is wrong with it."""

from pathlib import Path

import pytest

from launcher.site_config import Limits, Site, cache_directory, load_site
from registry_sync.errors import CasabinderError


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CASABINDER_SITE", raising=False)
    monkeypatch.delenv("CASABINDER_CACHE", raising=False)


def test_without_a_file_the_defaults_hold() -> None:
    assert load_site() == Site()
    assert Site().registry == "127.0.0.1:5000/casabinder"


def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_directory() == tmp_path / ".cache" / "casabinder"
    monkeypatch.setenv("CASABINDER_CACHE", "~/other")
    assert cache_directory() == tmp_path / "other"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASABINDER_CACHE", "here")
    assert cache_directory() == tmp_path / "here"


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("argument", "variable", ".cache/casabinder/site"):
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"registry: host/{path.stem}\n")
    assert load_site().registry == "host/site"
    monkeypatch.setenv("CASABINDER_SITE", str(tmp_path / "variable.yaml"))
    assert load_site().registry == "host/variable"
    assert load_site(tmp_path / "argument.yaml").registry == "host/argument"


def test_everything_a_site_may_say(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "registry: harbor.example.org/analysis\nbase: coffea-py311\ncatalogues: [bases, /srv/bases]\n"
        "ca_certificates: [ca.pem]\npackage_index: https://index/simple\n"
        "limits: {cpus: 0.5, memory: 1.5 GiB, workers: 0}\n"
    )
    site = load_site(path)
    assert (site.registry, site.base) == ("harbor.example.org/analysis", "coffea-py311")
    assert site.catalogues == (tmp_path / "bases", Path("/srv/bases"))
    assert site.ca_certificates == (tmp_path / "ca.pem",)
    assert site.limits == Limits(cpus=0.5, memory="1.5 GiB", workers=0)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("# nothing yet\n")
    assert load_site(tmp_path / "site.yaml") == Site()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"registry: [", "site.yaml is not valid YAML: "),
        (b"regsitry: host", "site.yaml: regsitry: Extra inputs are not permitted"),
        (b"limits: {cpus: 0}", "site.yaml: limits.cpus: Input should be greater than 0"),
        (b"limits: {memory: plenty}", "site.yaml: limits.memory: "),
        (b"repositories: {max_files: 0}", "site.yaml: repositories.max_files: Input should be greater than 0"),
        (b"repositories: {hosts: {gl: 'file:///etc'}}", "site.yaml: repositories.hosts.gl: "),
        (b"repositories: {hosts: {git: 'https://x'}}", "site.yaml: repositories.hosts.git"),
        (b"- a list", "site.yaml: the document: "),
        (b"base: \xff", "site.yaml is not UTF-8 text|site.yaml is not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_file_and_entry(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "site.yaml").write_bytes(content)
    with pytest.raises(CasabinderError, match=message) as caught:
        load_site(tmp_path / "site.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(CasabinderError, match=r"there is no site configuration .*none.yaml"):
        load_site(tmp_path / "none.yaml")
    with pytest.raises(CasabinderError, match="can't be read: Is a directory"):
        load_site(tmp_path)
