"""Reads many small documents of a store, several at once where that saves time."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pipeline.concurrency import Workers
from storage_backends import StorageBackend

_READERS = 8  # documents read at once

_Item = TypeVar("_Item")
_T = TypeVar("_T")


def read_each(
    store: StorageBackend, read: Callable[[_Item], _T], items: Iterable[_Item], *, name: str
) -> Iterator[tuple[_Item, _T]]:
    """Yield each item with the result of ``read(item)``, in any order. ``read`` gets a document from ``store``, and parses it.

    ``name`` is the threads' name. If ``read`` fails, raise its exception.
    """
    if store.url.startswith("file:"):
        # A local file takes less time to read than to parse. Threads that parse would only wait for one another.
        yield from ((item, read(item)) for item in items)
        return
    with Workers() as workers:
        yield from workers.map(read, items, threads=_READERS, name=name)
