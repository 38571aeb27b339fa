"""A page's configuration stands in HTML as a script that nothing in it can end."""

from __future__ import annotations

import base64
import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from launcher.service.binder_page import page_config_script


@given(banner=st.text() | st.sampled_from(["</script><script>alert(1)</script>", "<!--<script>", "\u2028", "&lt;"]))
def test_whatever_is_in_it(banner: str) -> None:
    text, source = page_config_script({"bannerText": banner})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text.removeprefix("window.pageConfig = ").removesuffix(";")) == {"bannerText": banner}
    assert source == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
