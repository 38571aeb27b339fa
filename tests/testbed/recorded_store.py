"""Notes what is asked of a store: every call goes on to the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from registry_sync.store import Store


class Call(NamedTuple):
    """One call of a store's method, with its positional arguments."""

    method: str
    arguments: tuple[Any, ...]


def recorded(store: Store) -> tuple[Store, list[Call]]:
    """Return a store that passes every call on to ``store``, and the list to which it adds the calls."""
    calls: list[Call] = []

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            method = getattr(store, name)

            def call(*arguments: Any, **named: Any) -> Any:
                calls.append(Call(name, arguments))
                return method(*arguments, **named)

            return call

    return cast("Store", Recorder()), calls
