"""Chooses the compression level of each piece, for the level ``auto``. The clock and the threads are the caller's.

While objects wait for a slow link, compressing harder costs no time: the next object must only be complete before the link has sent the
others. So two times decide: how long the waiting objects keep the link busy, and how long the threads need for the next object at each level.
If a level was too high, fewer objects wait, and the next choice is lower.
"""

import math
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
_SAFETY = 3.0
"""How many times longer the link must be busy than the threads need, so that a piece may wait."""
_WAIT = 2 / 3
"""The share of the link's time that is left when a waiting piece passes."""
_MEMORY = 2.0
"""Seconds of compression after which older measurements count half."""


@dataclass(slots=True)
class _Active:
    size: int
    """Bytes."""
    began: float
    """The link's share at which the upload began; see :attr:`Uploads._share`."""


class Uploads:
    """The objects on their way to one store, which sends at most ``transfers`` of them at once. Times are in seconds, by any clock.

    The progress of an upload is unknown. So each active upload counts as sent at the same speed as the others.
    """

    def __init__(self, transfers: int, least: int = 0) -> None:
        """``least`` is the size in bytes of an object from which on its upload shows the link's speed, and not only the link's delay."""
        self._transfers = transfers
        self._least = least
        self._active: dict[int, _Active] = {}
        """By the object's number."""
        self._waiting: dict[int, int] = {}
        """By the object's number: its size in bytes."""
        self._ended: deque[tuple[int, float]] = deque(maxlen=transfers)
        """The last uploads that ended: the size in bytes, and the link's share in seconds. Empty after the link was idle."""
        self._share = 0.0
        """For how many seconds an upload that was active all the time would have had the link for itself."""
        self._now = 0.0

    def add(self, number: int, size: int, now: float) -> None:
        """Take an object of ``size`` bytes."""
        self._advance(now)
        self._waiting[number] = size
        self._begin()

    def end(self, number: int, now: float) -> None:
        """Record that the store has the object, or has refused it."""
        self._advance(now)
        ended = self._active.pop(number)
        if ended.size >= self._least:
            self._ended.append((ended.size, self._share - ended.began))
        self._begin()
        if not self._active:
            self._ended.clear()

    def seconds_left(self, now: float) -> float:
        """Return for how many seconds the objects will probably keep the link busy.

        Until the link's speed is known, half of each active object counts as sent. So the longer the uploads have taken, the longer they will
        still take.
        """
        self._advance(now)
        shares = [self._share - active.began for active in self._active.values()]
        sizes = [active.size for active in self._active.values()]
        known = self._ended or [(size / 2, share) for size, share in zip(sizes, shares, strict=True)]
        if not (seconds := sum(share for _, share in known)):
            return 0.0
        speed = sum(size for size, _ in known) / seconds
        left = sum(max(0.0, size - speed * share) for size, share in zip(sizes, shares, strict=True))
        return (left + sum(self._waiting.values())) / speed

    def _advance(self, now: float) -> None:
        if self._active:
            self._share += (now - self._now) / len(self._active)
        self._now = now

    def _begin(self) -> None:
        while self._waiting and len(self._active) < self._transfers:
            number = next(iter(self._waiting))
            self._active[number] = _Active(self._waiting.pop(number), self._share)


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

    @property
    def pace(self) -> float:
        """The speed of the threads, divided by ``_SPEEDS``."""
        return self.expected / self.seconds

    def forget_speed(self) -> None:
        """Forget how fast the threads are."""
        self.expected = self.seconds = self.cpu_seconds = 0.0


class LevelChooser:
    """Chooses a level for each piece.

    ``threads`` has the levels to choose from, in ascending order, each with the number of threads that can compress at the level at once.
    """

    def __init__(self, threads: Mapping[int, int]) -> None:
        self._lowest, *self._higher = threads
        self.highest = max(threads)
        """The highest level."""
        self._threads = threads
        self._pieces = 0
        """The number of pieces that wait for a thread, or are being compressed."""
        self._queued = 0.0
        """Seconds that these pieces will take one thread, by ``_SPEEDS``."""
        self._latest = _Sums()
        self._wait_until = math.inf
        """While pieces wait: the seconds for which the link must still be busy when the next piece passes."""

    def choose(self, size: int, *, object_size: int, seconds_left: float) -> int:
        """Return the level for a piece of ``size`` bytes.

        ``object_size`` is the size in bytes of the next object. ``seconds_left`` says how long the link is busy without it; see
        :meth:`Uploads.seconds_left`.
        """
        latest = self._latest
        idle = latest.cpu_seconds > 0 and latest.cpu_seconds >= _LEAST_SHARE * latest.seconds
        return self._highest(size, object_size, seconds_left * latest.pace) if idle else self._lowest

    def should_wait(self, size: int, *, object_size: int, seconds_left: float) -> bool:
        """True if idle cores would allow a higher level for the piece, and the link is busy for long enough.

        While pieces wait, the program that makes them fills its spool, and is then paused. So the cores become idle, unless other programs
        use them. From time to time, one piece passes, to show whether they are.
        """
        possible = self._highest(size, object_size, seconds_left / _SAFETY)
        if possible == self._lowest:
            self._wait_until = math.inf
            return False
        if seconds_left > self._wait_until:
            return True
        if not self._latest.seconds:
            return self._pieces > 0
        if self.choose(size, object_size=object_size, seconds_left=seconds_left) >= possible:
            self._wait_until = math.inf
            return False
        self._latest.forget_speed()
        self._wait_until = _WAIT * seconds_left
        return True

    def _highest(self, size: int, object_size: int, seconds: float) -> int:
        """Return the highest level at which the queue, and then the next object, take at most ``seconds``, by ``_SPEEDS``."""
        latest = self._latest
        to_come = object_size * (latest.size / latest.frames if latest.frames else _RATIO)
        available = seconds - self._queued / self._threads[self._lowest]
        fitting = (
            level for level in self._higher if max(size, to_come / self._threads[level]) / _SPEEDS[level] <= available
        )
        return max(fitting, default=self._lowest)

    def begin(self, size: int, chosen: int) -> None:
        """Record that a piece waits for a thread, which will compress it at the level ``chosen``."""
        self._pieces += 1
        self._queued += _seconds(size, chosen)

    def end(self, size: int, chosen: int, done: Compressed) -> None:
        """Record that a piece of an earlier :meth:`begin` is compressed."""
        self._pieces -= 1
        self._queued -= _seconds(size, chosen)
        self._latest.add(size, _seconds(size, done.level), done)


def _seconds(size: int, level: int) -> float:
    return size / _SPEEDS.get(level, _OTHER_SPEED)
