"""``pylock.toml``: the right wheel for a target, and everything that can be wrong in a lock."""

import pytest

from builder.locking.pylock import LockedPackage, LockError, lock_sha256, read_pylock, write_pylock
from tests.testbed.tiny_base import TARGET

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def entry(name: str, *wheels: str, version: str = "1.0", marker: str = "") -> str:
    lines = [f'[[packages]]\nname = "{name}"\nversion = "{version}"']
    lines += [f"marker = {marker!r}"] if marker else []
    return "\n".join([*lines, f"wheels = [{', '.join(wheels)}]\n"])


def wheel(file: str, sha256: str = A, **more: object) -> str:
    described = "".join(f", {key} = {value!r}" for key, value in more.items())
    return f'{{ url = "https://host/x/{file}", hashes = {{ sha256 = "{sha256}" }}{described} }}'


def test_the_wheel_that_fits_best_is_taken() -> None:
    text = entry(
        "Pkg",
        wheel("pkg-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"),
        wheel("pkg-1.0-py3-none-any.whl", B),
        wheel("pkg-1.0-cp313-cp313-manylinux_2_28_x86_64.manylinux_2_27_x86_64.whl", C, size=12),
        wheel("pkg-1.0-cp313-cp313-win_amd64.whl"),
    )
    (package,) = read_pylock(text, TARGET)
    name = "pkg-1.0-cp313-cp313-manylinux_2_28_x86_64.manylinux_2_27_x86_64.whl"
    assert package == LockedPackage("pkg", "1.0", name, C, f"https://host/x/{name}", 12)


def test_the_order_of_wheels_and_packages_does_not_matter() -> None:
    wheels = [wheel("pkg-1.0-py3-none-any.whl", A), wheel("pkg-1.0-cp313-none-any.whl", B)]
    other = entry("another", wheel("another-1.0-py3-none-any.whl"))
    assert read_pylock(entry("pkg", *wheels) + other, TARGET) == read_pylock(
        other + entry("pkg", *wheels[::-1]), TARGET
    )


def test_a_pinned_hash_decides_which_wheel_it_is() -> None:
    text = entry("pkg", wheel("pkg-1.0-py3-none-any.whl", A), wheel("pkg-1.0-cp313-none-any.whl", B))
    assert read_pylock(text, TARGET, pins={"pkg": A})[0].sha256 == A
    with pytest.raises(LockError, match=f"the index no longer has the wheel of pkg 1.0 with sha256 {C}"):
        read_pylock(text, TARGET, pins={"pkg": C})


def test_packages_for_other_platforms_are_left_out() -> None:
    text = entry("pkg", wheel("pkg-1.0-py3-none-any.whl"), marker="sys_platform == 'win32'")
    assert read_pylock(text, TARGET) == []


def test_an_escaped_address_gives_the_name_of_the_file() -> None:
    (package,) = read_pylock(entry("pkg", wheel("pkg-1.0%2Bcpu-py3-none-any.whl")), TARGET)
    assert package.filename == "pkg-1.0+cpu-py3-none-any.whl"


def test_what_is_written_is_read_again() -> None:
    packages = [
        LockedPackage("b", "2.0", "b-2.0-py3-none-any.whl", B, "https://host/b-2.0-py3-none-any.whl", 7),
        LockedPackage("a", "1.0", "a-1.0-py3-none-any.whl", A),
    ]
    assert read_pylock(write_pylock(packages, TARGET), TARGET) == sorted(packages)


def test_the_identity_of_a_lock_is_what_is_installed() -> None:
    here = LockedPackage("a", "1.0", "a-1.0-py3-none-any.whl", A, "https://here/a.whl", 7)
    there = LockedPackage("a", "1.0", "a-1.0-py3-none-any.whl", A, "https://there/a.whl")
    other = LockedPackage("a", "1.0", "a-1.0-py3-none-any.whl", B)
    assert lock_sha256([here]) == lock_sha256([there]) != lock_sha256([other])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("packages = [", "my.toml is not valid TOML"),
        (entry("pkg"), r"pkg 1.0 has no wheel for Python 3.13 on x86_64 \(glibc 2.41\); choose a version that has one"),
        (entry("pkg", wheel("pkg-1.0-cp312-cp312-win32.whl")), "has no wheel for Python 3.13"),
        (entry("pkg", wheel("pkg.whl")), "invalid name: 'pkg.whl'"),
        (entry("pkg", wheel("pkg-1.0-py3-none-any.whl", "12")), "has no sha256"),
        (entry("pkg", wheel("pkg-1.0-py3-none-any.whl"), marker="nonsense"), "pkg has a marker that is not understood"),
        (entry("pkg", wheel("pkg-1.0-py3-none-any.x%2F..%2F..%2Fpkg.whl")), "invalid name"),
        (entry("pkg", wheel("x.whl", name="pkg-1.0-py3-none-any.x/../../pkg.whl")), "invalid name"),
    ],
)
def test_a_lock_that_cannot_be_honoured_is_refused(text: str, message: str) -> None:
    with pytest.raises(LockError, match=message):
        read_pylock(text, TARGET, "my.toml")
