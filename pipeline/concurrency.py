"""Pools of threads. No other module makes threads.

One thread owns the state. Workers run plain functions and hand their results back to the owner, so its state needs no lock. The first
failure is raised in the owner's thread.
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

_GRACE = 1.0  # seconds for running work to end after a failure
_TICK = 0.2  # seconds

T = TypeVar("T")
Item = TypeVar("Item")

Completion = tuple["Pool[Any]", Callable[[Any], None], Any, BaseException | None]


class Workers:
    """Pools of threads whose results come back to the owner's thread.

    The end of the ``with`` block drops queued work and waits for running work. After a failure, it waits one second at most. In a second,
    a thread can finish a file or remove it. A network that stalls may take longer, and isn't waited for. The threads are daemons. Objects
    that they still create in a store belong to no backup, since no manifest names them.
    """

    def __init__(self) -> None:
        self._completed: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        self._pools: list[Pool[Any]] = []

    def pool(self, threads: int, name: str) -> "Pool[Any]":
        """Return a new pool of ``threads`` threads, whose names begin with ``name``."""
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

        Takes at most twice as many items ahead as there are threads. Calls ``tick`` about every 0.2 seconds.
        If a worker fails, yields the results that came before, and then raises the exception. Raises ValueError if ``threads`` is below 1.
        """
        if threads < 1:
            raise ValueError("work needs at least one thread")
        pool: Pool[T] = self.pool(threads, name)
        results: deque[tuple[Item, T]] = deque()

        def take(item: Item, result: T) -> None:
            results.append((item, result))

        remaining, next_tick = iter(items), 0.0
        try:
            while True:
                for item in islice(remaining, 2 * threads - pool.pending):
                    pool.submit(partial(work, item), partial(take, item))
                if not pool.pending:
                    return
                try:
                    self.collect(_TICK)
                except Exception:
                    yield from results
                    raise
                while results:
                    yield results.popleft()
                if time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + _TICK
                    tick()
        finally:
            pool.finish()

    def run_apart(self, work: Callable[[], T], then: Callable[[T], None], name: str) -> None:
        """Run one piece of work on a new thread, which ends with the work; see :meth:`Pool.submit`."""
        self._pools = [pool for pool in self._pools if pool.lives]
        pool: Pool[T] = self.pool(1, name)
        pool.submit(work, then)
        pool.finish()

    def collect(self, timeout: float = 0.0) -> bool:
        """Call ``then`` with each result that has come. Wait up to ``timeout`` seconds for the first result.

        Return True if a result had come. Raises a worker's exception if its work failed.
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
    """Threads that take work in the order in which it is submitted."""

    def __init__(self, threads: int, name: str, completed: "queue.SimpleQueue[Completion]") -> None:
        self.pending = 0
        """Pieces of work submitted and not yet collected. Only the owner's thread may use this number."""
        self._completed = completed
        self._stopping = threading.Event()
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run ``work`` on a thread of the pool. Afterwards, :meth:`Workers.collect` calls ``then`` with the result, in the owner's thread."""
        self.pending += 1
        self._work.put((work, then))

    @property
    def lives(self) -> bool:
        """True if any thread still runs."""
        return any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """Take no more work. The threads end when all submitted work is done."""
        for _ in self._threads:
            self._work.put(None)

    def stop(self) -> None:
        """Take no more work, and drop the work that no thread has begun."""
        self._stopping.set()
        self.finish()

    def join(self, deadline: float | None) -> None:
        """Wait for the threads to end. ``deadline`` is a time of the monotonic clock in seconds; None for no deadline."""
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
