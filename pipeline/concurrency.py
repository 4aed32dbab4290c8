"""The only place where threads are made.

One thread owns all state; workers run plain functions and hand results back to it, so nothing else needs a lock. The first
failure is the one that is raised, in the owner's thread.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

_GRACE = 1.0  # seconds for work that runs when something fails
_TICK = 0.2  # seconds

T = TypeVar("T")
Item = TypeVar("Item")

Completion = tuple["Pool[Any]", Callable[[Any], None], Any, BaseException | None]


class Workers:
    """Pools of threads whose results come back to the thread that made this.

    Leaving the ``with`` block after a failure abandons what is queued, and what runs after a moment: enough for a file to be written or its
    remains removed, but no wait for a network that stalls. The threads are daemons, and what they still create in a store is no backup
    without a manifest.
    """

    def __init__(self) -> None:
        self._completed: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        self._pools: list[Pool[Any]] = []

    def pool(self, threads: int, name: str) -> "Pool[Any]":
        """A new pool of so many threads."""
        pool: Pool[Any] = Pool(threads, name, self._completed)
        self._pools.append(pool)
        return pool

    def map(
        self,
        work: Callable[[Item], T],
        items: Iterable[Item],
        *,
        threads: int,
        name: str,
        tick: Callable[[], object] = lambda: None,
    ) -> Iterator[tuple[Item, T]]:
        """Yield each item with the result of ``work(item)``, in the order in which results come.

        Takes at most twice as many items ahead as there are threads. Calls ``tick`` after results, and every 0.2 seconds without any.
        Raises what a worker raised.
        """
        pool: Pool[T] = self.pool(threads, name)
        results: deque[tuple[Item, T]] = deque()

        def take(item: Item, result: T) -> None:
            results.append((item, result))

        remaining = iter(items)
        while True:
            for item in islice(remaining, 2 * threads - pool.pending):
                pool.submit(partial(work, item), partial(take, item))
            if not pool.pending:
                break
            self.collect(_TICK)
            while results:
                yield results.popleft()
            tick()
        pool.finish()

    def run_apart(self, work: Callable[[], T], then: Callable[[T], None], name: str) -> None:
        """Run one piece of work on a thread of its own, which ends with it; see :meth:`Pool.submit`."""
        self._pools = [pool for pool in self._pools if pool.lives]
        pool: Pool[T] = self.pool(1, name)
        pool.submit(work, then)
        pool.finish()

    def collect(self, timeout: float = 0.0) -> bool:
        """Hand results to their ``then``: all that are there, after waiting up to ``timeout`` seconds for the first.

        Returns whether there was one. Raises what a worker raised.
        """
        try:
            completion = self._completed.get(timeout=timeout) if timeout > 0 else self._completed.get_nowait()
        except queue.Empty:
            return False
        while True:
            pool, then, result, error = completion
            pool.pending -= 1
            if error is not None:
                raise error
            then(result)
            try:
                completion = self._completed.get_nowait()
            except queue.Empty:
                return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools:
            pool.stop()
        deadline = None if error is None else time.monotonic() + _GRACE
        for pool in self._pools:
            pool.join(deadline)


class Pool(Generic[T]):
    """A number of threads that take work in the order in which it was given."""

    def __init__(self, threads: int, name: str, completed: "queue.SimpleQueue[Completion]") -> None:
        self.pending = 0
        """Pieces of work given and not yet collected; for the owner's thread."""
        self._completed = completed
        self._stopping = threading.Event()
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run ``work`` on a thread, and ``then`` with its result in the owner's, by :meth:`Workers.collect`."""
        self.pending += 1
        self._work.put((work, then))

    @property
    def lives(self) -> bool:
        """True if a thread has not ended."""
        return any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """No more work than was given."""
        for _ in self._threads:
            self._work.put(None)

    def stop(self) -> None:
        """No more work, not even what waits."""
        self._stopping.set()
        self.finish()

    def join(self, deadline: float | None) -> None:
        """Wait for the threads to end; until ``deadline`` by the monotonic clock, where there is one."""
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (item := self._work.get()) is not None and not self._stopping.is_set():
            work, then = item
            try:
                self._completed.put((self, then, work(), None))
            except BaseException as exc:
                self._completed.put((self, then, None, exc))
            del item, work, then  # an idle thread holds no object's bytes
