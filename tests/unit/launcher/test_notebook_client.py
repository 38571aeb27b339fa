from __future__ import annotations

from typing import Any

from launcher.notebook_client import add_output


def test_outputs_are_those_of_nbformat() -> None:
    outputs: list[dict[str, Any]] = []
    add_output(outputs, "stream", {"name": "stdout", "text": "one\n"})
    add_output(outputs, "stream", {"name": "stdout", "text": "two\n"})
    add_output(outputs, "stream", {"name": "stderr", "text": "careful\n"})
    add_output(outputs, "display_data", {"data": {"text/plain": "figure"}, "metadata": {}, "transient": {}})
    add_output(outputs, "execute_result", {"data": {"text/plain": "4"}, "metadata": {}, "execution_count": 3})
    add_output(outputs, "comm_open", {"comm_id": "x"})
    assert outputs == [
        {"output_type": "stream", "name": "stdout", "text": "one\ntwo\n"},
        {"output_type": "stream", "name": "stderr", "text": "careful\n"},
        {"output_type": "display_data", "data": {"text/plain": "figure"}, "metadata": {}},
        {"output_type": "execute_result", "data": {"text/plain": "4"}, "metadata": {}, "execution_count": 3},
    ]
