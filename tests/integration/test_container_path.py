"""``apt.txt``, ``postBuild`` and ``Dockerfile`` with the real engine: what comes out, and what is not allowed."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.base import InstalledEnvironment, Inventory, attach_inventory
from builder.build import build
from builder.container.engine import ContainerLimits, EngineError, docker, pull
from builder.container.image_check import check_image, look_into, offers_workers
from builder.container.step import LABEL, Step, StepError, finished_container, remove_leftovers
from builder.facility import BaseChoice, Bases
from builder.image import ImageSettings, Parent, make_image
from builder.layers.cache import LayerCache
from builder.publish import Part, put_image, put_part
from builder.repository.spec import RepoSpec
from builder.target import PythonTarget
from tests.testbed.git_repository import commit_files
from tests.testbed.launching import engine_answers
from tests.testbed.registry import registry_is_installed
from tests.testbed.shell import shell_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from base_images.assemble import BaseRecord
    from builder.events import Event
    from builder.facility import Facility
    from builder.record import ImageRecord


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
    pytest.mark.skipif(not engine_answers(), reason="needs a container engine"),
]

POST_BUILD = """\
#!/bin/bash
set -e
id > made.txt
pip --version >> made.txt
mkdir -p ~/.local/bin ~/.cache/some
printf '#!/bin/sh\\necho mine\\n' > ~/.local/bin/mine
chmod +x ~/.local/bin/mine
ln -s mine ~/.local/bin/python-config
dd if=/dev/zero of=/tmp/big bs=1M count=2 status=none
dd if=/dev/zero of=$HOME/.cache/some/big bs=1M count=2 status=none
rm binder/unwanted.txt
test -x /usr/bin/tree
echo "$NB_PYTHON_PREFIX $REPO_DIR $PWD" >> made.txt
"""
FILES = {
    "apt.txt": "tree-that-is-not-meant\n",
    "postBuild": "#!/bin/sh\nexit 3\n",
    "binder/apt.txt": "tree\n",
    "binder/postBuild": POST_BUILD,
    "binder/start": '#!/bin/sh\nexport STARTED=yes\nexec "$@"\n',
    "binder/unwanted.txt": "",
}
QUESTIONS = """
id -u; which tree mine python jupyter-lab; mine; echo "$STARTED"; cat made.txt
test ! -e binder/unwanted.txt && echo gone
du -sk /tmp /home/jovyan | cut -f1
"""
SMALL = ContainerLimits(memory=256 * 2**20, cpus=1, processes=64, seconds=60)


def make(
    directory: Path, files: Mapping[str, str], facility: Facility, base: BaseChoice, *, rebuild: bool = False
) -> tuple[ImageRecord, list[str]]:
    """Build a repository of ``files`` and return the record and what was said."""
    commit_files(directory, files)
    said: list[str] = []

    def hear(event: Event) -> None:
        if event.kind == "message":
            said.append(event.message)

    return build(RepoSpec(str(directory)), Bases.only(base), facility, hear, rebuild=rebuild), said


def run(record: ImageRecord, script: str) -> list[str]:
    """Run a script in a container of an image, by its own entry point, and return the lines it wrote."""
    name = f"{record.image.rpartition(':')[0]}@{record.digest}"
    try:
        pull(name)
        return docker("run", "--rm", "--network=none", name, "sh", "-c", script).splitlines()
    finally:
        docker("rmi", "--force", name)


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, facility: Facility, real_base: BaseChoice
) -> tuple[ImageRecord, list[str]]:
    return make(tmp_path_factory.mktemp("steps") / "repository", FILES, facility, real_base)


def test_apt_and_post_build_leave_what_they_made_and_nothing_else(built: tuple[ImageRecord, list[str]]) -> None:
    record, said = built
    assert [layer.what for layer in record.layers if layer.source != "base"] == [
        "Debian packages: tree",
        "repository",
        "env.json",
        "what binder/postBuild made",
    ]
    assert not record.reproducible
    assert any("a container engine installs tree as root" in line for line in said)
    lines = run(record, QUESTIONS)
    assert lines[:7] == [
        "1000",
        "/usr/bin/tree",
        "/home/jovyan/.local/bin/mine",
        "/srv/env/bin/python",
        "/srv/jupyter/commands/jupyter-lab",
        "mine",
        "yes",
    ]
    assert lines[7].startswith("uid=1000(jovyan) gid=1000(jovyan)")
    assert lines[8].startswith("pip ")
    assert lines[9:11] == ["/srv/env /srv/repo /srv/repo", "gone"]
    assert all(int(size) < 1000 for size in lines[11:])


def test_the_layers_of_steps_are_found_again_without_an_engine(
    built: tuple[ImageRecord, list[str]],
    tmp_path: Path,
    facility: Facility,
    real_base: BaseChoice,
) -> None:
    record, _ = built
    without = replace(facility, containers=ContainerLimits(engine=False))
    other, _ = make(tmp_path / "other", {"apt.txt": "tree\n", "a.py": ""}, without, real_base)
    mounted = [layer for layer in other.layers if layer.source == "mounted"]
    assert [layer.what for layer in mounted] == ["Debian packages: tree"]
    assert mounted[0].digest in {layer.digest for layer in record.layers}
    fork, _ = make(tmp_path / "fork", FILES, without, real_base)
    assert fork.digest == record.digest
    with pytest.raises(EngineError, match="postBuild runs commands while the image is built, which needs a container"):
        make(tmp_path / "fork", {"binder/postBuild": "#!/bin/sh\n"}, without, real_base)


def test_the_same_packages_give_the_same_layer(
    built: tuple[ImageRecord, list[str]], tmp_path: Path, facility: Facility, real_base: BaseChoice
) -> None:
    again, _ = make(tmp_path / "again", {"apt.txt": "tree\n"}, facility, real_base, rebuild=True)
    made = [layer for layer in again.layers if layer.what.startswith("Debian")]
    assert [layer.source for layer in made] == ["uploaded"]
    assert made[0].digest in {layer.digest for layer in built[0].layers}


@pytest.fixture(scope="module")
def image(base_record: BaseRecord, real_base: BaseChoice) -> str:
    """The base, as the engine is told it."""
    return f"{real_base.registry}/{real_base.repository}@{base_record.digest}"


def outcome(image: str, script: str, limits: ContainerLimits) -> list[str]:
    """Run a script as the user within ``limits`` and return what it said."""
    said: list[str] = []
    with finished_container(Step("postBuild", image, script, "1000:1000", "/srv/repo"), limits, said.append):
        return said


def test_memory_is_limited(image: str) -> None:
    with pytest.raises(StepError, match="postBuild needed more than the 268 MB of memory"):
        outcome(image, "python -c 'bytearray(3 * 2**30)'", SMALL)


def test_time_is_limited(image: str) -> None:
    with pytest.raises(StepError, match="postBuild was still running after 2 s"):
        outcome(image, "sleep 60", replace(SMALL, seconds=2))


def test_processes_are_limited(image: str) -> None:
    bomb = """
import os, time
count = 0
try:
    while count < 1000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except OSError as error:
    print(count, error.strerror)
"""
    (said,) = outcome(image, f"python -c '{bomb}'", SMALL)
    count, reason = said.split(" ", 1)
    assert reason == "Resource temporarily unavailable"
    assert 32 < int(count) < SMALL.processes


def test_the_network_may_be_taken_away_and_rights_always_are(image: str) -> None:
    script = "ls /sys/class/net; grep -e ^CapEff -e ^NoNewPrivs /proc/self/status; ls /var/run/docker.sock 2>&1 || true"
    said = outcome(image, script, replace(SMALL, network="none"))
    assert said[:1] == ["lo"]
    assert [line.split()[1] for line in said[1:3]] == ["0" * 16, "1"]
    assert "No such file" in said[3]
    with pytest.raises(StepError, match="failed with exit code 7: nothing"):
        outcome(image, "echo nothing; exit 7", SMALL)


def test_packages_without_a_network_are_refused_with_the_reason(
    tmp_path: Path, facility: Facility, real_base: BaseChoice
) -> None:
    without = replace(facility, containers=ContainerLimits(network="none"))
    with pytest.raises(StepError, match=r"apt\.txt needs the network, which this facility does not allow"):
        make(tmp_path / "repository", {"apt.txt": "jq\n"}, without, real_base)


def labelled() -> list[str]:
    """Return the containers that a build has made."""
    return docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL}").split()


def test_what_a_killed_build_left_is_removed_by_the_next(image: str) -> None:
    past, future = time.time() - 3600, time.time() + 3600
    pull(image)
    old, new = (
        docker("create", f"--label={LABEL}={ends:.0f}", "--entrypoint=/bin/true", image).strip()
        for ends in (past, future)
    )
    try:
        remove_leftovers()
        deadline = time.monotonic() + 60
        while old in (left := labelled()):  # another process's may be removing it
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert new in left
    finally:
        docker("rm", "--force", new)
    with pytest.raises(EngineError, match="No such"):
        docker("container", "inspect", old)


# Dockerfiles


@pytest.fixture(scope="module")
def small_base(tmp_path_factory: pytest.TempPathFactory, facility: Facility) -> Iterator[BaseChoice]:
    """A base of a shell and nothing else, in the facility's registry."""
    layer = LayerCache(tmp_path_factory.mktemp("small")).build("small", "a shell", shell_entries)
    image = make_image(Parent(), [layer], ImageSettings({"PATH": "/bin"}), {})
    put_part(facility.store, "small", Part(layer.descriptor, blob=layer.blob))
    put_image(facility.store, "small", image, ["1"])
    nothing = InstalledEnvironment("/srv/env", (), ())
    inventory = Inventory("small", PythonTarget("3.13", "3.13.5", "2.41"), nothing, nothing)
    attach_inventory(facility.store, "small", image.manifest, inventory, {}, {})
    yield BaseChoice(facility.registry, "small", "1")
    docker("rmi", "--force", f"{facility.registry}/small:1")


def test_a_dockerfile_is_built_as_it_is_and_told_what_it_lacks(
    small_base: BaseChoice, tmp_path: Path, facility: Facility
) -> None:
    dockerfile = (
        f"FROM {small_base} AS shell\nFROM {small_base}\nARG NB_USER\n"
        "COPY --from=shell /bin/sh /bin/jupyterhub-singleuser\nCOPY data.txt /\n"
        "RUN echo $NB_USER > /x\nENV HOME=/tmp\nUSER 1000\n"
    )
    files = {"binder/Dockerfile": dockerfile, "data.txt": "data\n"}
    record, said = make(tmp_path / "d", files, facility, small_base)
    assert [(layer.what, layer.source) for layer in record.layers] == [
        ("small", "base"),
        *[("a layer of the Dockerfile", "uploaded")] * 3,
        ("env.json", "uploaded"),
    ]
    assert (record.base.name, record.base.reference, record.base.digest) == ("Dockerfile", "binder/Dockerfile", "")
    assert not record.reproducible
    lacks = ("it has no Python kernel", "Dask workers are not offered, because python3 can't import dask, distributed")
    for sentence in lacks:
        assert any(line.startswith(f"binder/Dockerfile: {sentence}") for line in said)
    assert not [line for line in said if "will be run as user 1000" in line]
    lines = run(record, "for name in /x /data.txt /etc/casabinder/env.json; do read -r line < $name; echo $line; done")
    assert lines[:2] == ["jovyan", "data"]
    assert json.loads(lines[2])["env_id"] == record.env_id
    manifest = facility.store.get_manifest(record.image.partition("/")[2].rpartition(":")[0], record.digest)
    assert manifest.annotations["org.casabinder.workers"] == "no"
    (built,) = [line.split()[-1] for line in said if "Successfully built" in line]
    with pytest.raises(EngineError, match="No such"):
        docker("image", "inspect", built)
    fork, _ = make(tmp_path / "fork", {**files, "more": ""}, facility, small_base)
    assert fork.layers[0].source == "base"
    assert fork.env_id != record.env_id


def test_an_image_with_everything_is_seen_to_have_it(image: str) -> None:
    pull(image)
    facts = look_into(image, "Dockerfile", SMALL)
    assert check_image(facts, "Dockerfile") == []
    assert (offers_workers(facts), facts.python) == (True, "3.13")


def test_what_others_run_as_the_same_user_leaves_a_dockerfile_alone(
    image: str, small_base: BaseChoice, tmp_path: Path, facility: Facility
) -> None:
    asleep = f"for i in $(seq {2 * SMALL.processes}); do sleep 300 & done; wait"
    pull(image)
    other = docker("run", "--detach", "--rm", "--user=1000:1000", image, "sh", "-c", asleep).strip()
    try:
        dockerfile = f"FROM {image}\nUSER 1000\nRUN true & wait; exit 4\n"
        with pytest.raises(StepError, match="failed with exit code 4"):
            make(tmp_path / "d", {"Dockerfile": dockerfile}, replace(facility, containers=SMALL), small_base)
    finally:
        docker("kill", other)


@pytest.mark.parametrize(
    ("dockerfile", "sentence"),
    [
        ("FROM {small}\nCMD x\n", r"no notebook server can start in the image: install jupyterhub"),
        ("FROM {small}\nRUN exit 4\n", r"Dockerfile: RUN exit 4: failed with exit code 4"),
        ("FROM {small}\nRUN while :; do :; done\n", r"Dockerfile was still being built after 6 s"),
        ("FROM {image}\nRUN python -c 'bytearray(3 * 2**30)'\n", r"it was killed, .* more than the 268 MB"),
        ("FROM {small}\nRUN --mount=type=cache,target=/x true\n", r"this needs BuildKit"),
        ("FROM {registry}/absent:1\n", r"there is no image .*absent:1; check its name"),
        ("FROM scratch\nCOPY Dockerfile /\n", r"the image can't run a shell"),
        ("NONSENSE\n", r"Dockerfile: dockerfile parse error"),
    ],
)
def test_a_dockerfile_that_gives_no_server_is_refused(
    dockerfile: str, sentence: str, small_base: BaseChoice, image: str, tmp_path: Path, facility: Facility
) -> None:
    text = dockerfile.format(small=small_base, image=image, registry=facility.registry)
    limits = replace(SMALL, seconds=6) if "while" in text else SMALL
    with pytest.raises(StepError, match=sentence):
        make(tmp_path / "d", {"Dockerfile": text}, replace(facility, containers=limits), small_base)
