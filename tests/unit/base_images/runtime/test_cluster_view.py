from __future__ import annotations

import re

from casabinder_runtime.cluster_view import rows

NOTES = ["1 pulling the image for 50 s", "2 idle in the queue", "1 held: <script>alert(1)</script>", "3 ended: why"]


def test_each_fate_is_a_line_with_its_colour() -> None:
    html = rows("htcondor", "manual", 2, NOTES, 0)
    found = re.findall(r'color: (#\w+);">&#9679;</span> ([^<]+)</div>', html)
    assert [line for _, line in found] == [
        "2 running",
        *NOTES[:2],
        "1 held: &lt;script&gt;alert(1)&lt;/script&gt;",
        NOTES[3],
    ]
    colours = [colour for colour, _ in found]
    assert len(set(colours)) == 4
    assert colours[3] == colours[4]
    assert "<script" not in html


def test_it_says_how_to_get_logs_and_of_whom() -> None:
    assert "<code>cluster.logs()</code> of the scheduler and of running workers</td>" in rows(
        "local", "manual", 1, [], 0
    )
    assert "running workers, and of 1 worker that ended</td>" in rows("local", "manual", 1, [], 1)
    assert "running workers, and of 3 workers that ended</td>" in rows("local", "manual", 1, [], 3)
