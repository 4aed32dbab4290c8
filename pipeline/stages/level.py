"""Chooses the compression level of each piece, for the level ``auto``. The clock and the threads are the caller's.

While objects wait for a slow link, compressing harder costs no time: the next object must only be complete before the link has sent the
others. So two times decide: how long the waiting objects keep the link busy, and how long the threads need for the next object at each level.
If a level was too high, fewer objects wait, and the next choice is lower.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config import MIB
from pipeline.stages.compress import Compressed

_SPEEDS: Mapping[int, float] = {3: 159.0 * MIB, 6: 66.0 * MIB, 9: 29.0 * MIB, 11: 15.0 * MIB}
"""By level: the bytes of a dump that one core compresses in a second. ``python -m benchmarks.levels`` measures them. Only the ratios matter,
since each backup measures its own speed."""
_OTHER_SPEED = _SPEEDS[3]
"""The speed of a level that ``auto`` doesn't have. Then there is nothing to choose."""
_RATIO = 3.0
"""The size of a piece divided by the size of its frame, before anything was measured."""
_LEAST_SHARE = 0.5
"""The least share of a core that a compressing thread must get. If it gets less, other programs need the cores."""
_MEMORY = 2.0
"""Seconds of compression after which older measurements count half."""


class Uploads:
    """The objects on their way to one store, which sends at most ``transfers`` of them at once. Times are in seconds, by any clock."""

    def __init__(self, transfers: int) -> None:
        self._transfers = transfers
        self._active: dict[int, tuple[int, float]] = {}
        """By the object's number: its size in bytes, and when its upload began."""
        self._waiting: dict[int, int] = {}
        """By the object's number: its size in bytes."""
        self._ended: deque[tuple[int, float]] = deque(maxlen=transfers)
        """The last uploads that ended: the size in bytes, and when the upload began. Empty after the link was idle."""

    def add(self, number: int, size: int, now: float) -> None:
        """Take an object of ``size`` bytes."""
        self._waiting[number] = size
        self._begin(now)

    def end(self, number: int, now: float) -> None:
        """Record that the store has the object, or has refused it."""
        self._ended.append(self._active.pop(number))
        self._begin(now)
        if not self._active:
            self._ended.clear()

    def seconds_left(self, now: float) -> float:
        """Return for how many seconds the objects will probably keep the link busy.

        The progress of an upload is unknown, so half of each object counts as sent. Until the first upload ends, only its age is known: the
        longer it has taken, the longer it will still take.
        """
        if not self._active:
            return 0.0
        half = sum(size for size, _ in self._active.values()) / 2
        sent = half + sum(size for size, _ in self._ended)
        since = min(began for _, began in (*self._active.values(), *self._ended))
        return (half + sum(self._waiting.values())) * (now - since) / sent

    def _begin(self, now: float) -> None:
        while self._waiting and len(self._active) < self._transfers:
            number = next(iter(self._waiting))
            self._active[number] = self._waiting.pop(number), now


@dataclass(slots=True)
class _Sums:
    """Sums over the latest pieces."""

    size: float = 0.0
    """Bytes of the pieces."""
    frames: float = 0.0
    """Bytes of their frames."""
    expected: float = 0.0
    """Seconds that one thread would take by ``_SPEEDS``."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, size: int, expected: float, done: Compressed) -> None:
        self.size += size
        self.frames += len(done.frame)
        self.expected += expected
        self.seconds += done.seconds
        self.cpu_seconds += done.cpu_seconds
        if self.seconds > _MEMORY:
            for name in self.__slots__:
                setattr(self, name, getattr(self, name) / 2)


class LevelChooser:
    """Chooses a level for each piece.

    ``threads`` has the levels to choose from, in ascending order, each with the number of threads that can compress at the level at once.
    """

    def __init__(self, threads: Mapping[int, int]) -> None:
        self._lowest, *self._higher = threads
        self.highest = max(threads)
        """The highest level."""
        self._threads = threads
        self._queued = 0.0
        """Seconds that the chosen pieces will take one thread, by ``_SPEEDS``."""
        self._latest = _Sums()

    @property
    def cores_are_idle(self) -> bool:
        """True if the threads get enough of the cores. Otherwise only the lowest level is chosen, however slow the link is."""
        return self._latest.cpu_seconds >= _LEAST_SHARE * self._latest.seconds

    def choose(self, size: int, *, object_size: int, seconds_left: float) -> int:
        """Return the level for a piece of ``size`` bytes.

        ``object_size`` is the size in bytes of the next object. ``seconds_left`` says how long the link is busy without it; see
        :meth:`Uploads.seconds_left`.
        """
        latest = self._latest
        pace = latest.expected / latest.seconds if latest.seconds else 1.0
        to_come = object_size * (latest.size / latest.frames if latest.frames else _RATIO)
        available = seconds_left * pace - self._queued / self._threads[self._lowest]
        chosen = self._lowest
        for level in self._higher if self.cores_are_idle else ():
            needed = max(size, to_come / self._threads[level]) / _SPEEDS[level]
            if needed <= available:
                chosen = level
        return chosen

    def begin(self, size: int, chosen: int) -> None:
        """Record that a piece waits for a thread, which will compress it at the level ``chosen``."""
        self._queued += _seconds(size, chosen)

    def end(self, size: int, chosen: int, done: Compressed) -> None:
        """Record that a piece of an earlier :meth:`begin` is compressed."""
        self._queued -= _seconds(size, chosen)
        self._latest.add(size, _seconds(size, done.level), done)


def _seconds(size: int, level: int) -> float:
    return size / _SPEEDS.get(level, _OTHER_SPEED)
