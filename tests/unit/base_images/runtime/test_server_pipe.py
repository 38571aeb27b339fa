from __future__ import annotations

from casabinder_runtime.server_pipe import ScaleRequests, scale_line


def test_lines_may_arrive_in_pieces() -> None:
    said = scale_line(4) + scale_line(12)
    for cut in range(len(said)):
        requests = ScaleRequests()
        assert requests.feed(said[:cut]) + requests.feed(said[cut:]) == [4, 12]
