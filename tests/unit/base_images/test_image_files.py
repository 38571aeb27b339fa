"""casabinder's own files in a base."""

from base_images.image_files import CERTIFICATES, certificate_entries, environment, own_entries, user_entries
from builder.layers.archive import check_entry

PASSWD = "root:x:0:0:root:/root:/bin/bash\n"
GROUP = "root:x:0:"


def test_the_entry_point_can_be_run_and_the_repository_belongs_to_the_user() -> None:
    entries = {entry.path: entry for entry in own_entries()}
    for entry in entries.values():
        check_entry(entry)
    assert entries["usr/local/bin/casabinder-entrypoint"].mode == 0o755
    assert (entries["srv/repo"].uid, entries["srv/repo"].gid) == (1000, 1000)
    assert entries["srv/jupyter/commands/jupyter-lab"].target == "../bin/jupyter-lab"


def test_the_servers_commands_come_first_on_the_path() -> None:
    variables = environment({"EXTRA": "1", "LANG": "C"})
    assert variables["PATH"].split(":")[:2] == ["/srv/jupyter/commands", "/srv/env/bin"]
    assert (variables["EXTRA"], variables["LANG"]) == ("1", "C")
    assert variables["NB_PYTHON_PREFIX"] == variables["KERNEL_PYTHON_PREFIX"] == "/srv/env"


def test_a_user_is_added_where_there_is_none() -> None:
    passwd, group, home = user_entries(PASSWD, GROUP)
    assert passwd.content == PASSWD.encode() + b"jovyan:x:1000:1000::/home/jovyan:/bin/bash\n"
    assert group.content == b"root:x:0:\njovyan:x:1000:\n"
    assert (home.path, home.uid) == ("home/jovyan", 1000)
    assert user_entries(PASSWD + "me:x:1000:1000::/home/me:/bin/sh\n", GROUP) == []


def test_certificates_are_added_to_those_that_are_there() -> None:
    entries = certificate_entries("OLD\n\n", [("site-1", "NEW"), ("site-2", "NEWER\n")])
    assert [entry.path for entry in entries][:2] == [
        "usr/local/share/ca-certificates/site-1.crt",
        "usr/local/share/ca-certificates/site-2.crt",
    ]
    assert (entries[2].path, entries[2].content) == (CERTIFICATES, b"OLD\nNEW\nNEWER\n")
