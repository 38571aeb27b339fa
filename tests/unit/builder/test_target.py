"""The platform an image offers: wheel tags in order, markers, uv's name for it."""

import pytest
from packaging.markers import Marker
from packaging.tags import Tag

from builder.target import PythonTarget

TARGET = PythonTarget("3.13", "3.13.5", "2.41")


def test_the_best_tag_is_the_newest_c_library_and_the_worst_is_any() -> None:
    assert TARGET.tags[0] == Tag("cp313", "cp313", "manylinux_2_41_x86_64")
    assert TARGET.tags[-1] == Tag("py30", "none", "any")
    assert TARGET.tag_rank[TARGET.tags[0]] == 0


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("cp313-cp313-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_17_x86_64"),
        ("cp313-cp313-manylinux_2_17_x86_64", "cp313-cp313-manylinux2014_x86_64"),
        ("cp313-cp313-manylinux2014_x86_64", "cp313-cp313-manylinux_2_12_x86_64"),
        ("cp313-cp313-linux_x86_64", "cp313-abi3-manylinux_2_28_x86_64"),
        ("cp312-abi3-manylinux_2_17_x86_64", "py3-none-any"),
        ("py3-none-manylinux_2_17_x86_64", "py3-none-any"),
    ],
)
def test_tags_are_ordered_as_pip_orders_them(better: str, worse: str) -> None:
    assert TARGET.tag_rank[Tag(*better.split("-"))] < TARGET.tag_rank[Tag(*worse.split("-"))]


@pytest.mark.parametrize(
    "tag", ["cp313-cp313-manylinux_2_42_x86_64", "cp313-cp313t-manylinux_2_17_x86_64", "cp314-cp314-linux_x86_64"]
)
def test_what_the_image_cannot_run_has_no_rank(tag: str) -> None:
    assert Tag(*tag.split("-")) not in TARGET.tag_rank


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("python_version >= '3.13' and sys_platform == 'linux'", True),
        ("python_full_version < '3.13.5'", False),
        ("platform_machine == 'aarch64'", False),
        ("os_name == 'nt' or platform_system == 'Darwin'", False),
        ("implementation_name == 'cpython' and platform_python_implementation != 'PyPy'", True),
    ],
)
def test_markers_are_those_of_the_image(marker: str, holds: bool) -> None:
    assert Marker(marker).evaluate(dict(TARGET.markers)) is holds


@pytest.mark.parametrize(
    ("glibc", "platform"),
    [
        ("2.41", "x86_64-manylinux_2_40"),
        ("2.36", "x86_64-manylinux_2_36"),
        ("2.30", "x86_64-manylinux_2_28"),
        ("2.17", "x86_64-manylinux_2_17"),
        ("2.12", "x86_64-manylinux_2_17"),
    ],
)
def test_uv_is_told_of_a_platform_that_is_not_newer(glibc: str, platform: str) -> None:
    assert PythonTarget("3.11", "3.11.2", glibc).uv_platform == platform


def test_the_platform_in_the_words_of_oci() -> None:
    assert TARGET.platform == "linux/amd64"
    assert PythonTarget("3.13", "3.13.5", "2.41", "aarch64").platform == "linux/arm64"
