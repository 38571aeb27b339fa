from __future__ import annotations

import pytest
from casabinder_runtime import xrootd_connections
from casabinder_runtime.xrootd_connections import labelled


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("root://host//store/x.root", "root://t2@host//store/x.root"),
        ("roots://host:1094//store/x.root?a=b@c", "roots://t2@host:1094//store/x.root?a=b@c"),
        ("xroot://[::1]:1094//x", "xroot://t2@[::1]:1094//x"),
        ("root://host", "root://t2@host"),
        ("root://host//path@with", "root://t2@host//path@with"),
        ("root://someone@host//x", "root://someone@host//x"),
        ("https://host/x", "https://host/x"),
        ("/local/file", "/local/file"),
        (None, None),
    ],
)
def test_addresses_without_a_user_get_one(monkeypatch: pytest.MonkeyPatch, url: object, expected: object) -> None:
    assert labelled(url) is url, "nothing has changed yet"
    monkeypatch.setattr(xrootd_connections, "_login", "t2")
    assert labelled(url) == expected
