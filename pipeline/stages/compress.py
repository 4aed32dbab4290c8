"""Compresses and decompresses independent zstd frames (RFC 8878). Only this module imports zstandard."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import zstandard

from pipeline.config import MIB, Level
from pipeline.errors import BackupDamaged

AUTO_LEVELS = (3, 6, 9, 11)
"""The levels of ``auto``. Level 12 saves hardly more than level 11, and takes twice the memory."""
_QUICK_LEVELS = range(1, 6)
_QUICK_SIZE = 16 * 1024  # bytes
_SAMPLE = 512 * 1024  # bytes
_LEAST_GAIN = 0.01
"""The least share of a sample that a higher level must save."""
_OUTPUT = 1024 * 1024
_LARGEST_WINDOW = 8 * 1024 * 1024
"""The largest window of a frame that pgstow decompresses, in bytes. RFC 8878 (3.1.1.1.2) asks readers to support at least this size.
pgstow's own frames need no larger window."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """A frame, and what it cost."""

    frame: bytes
    level: int
    """The level at which the frame was made."""
    seconds: float
    cpu_seconds: float


class Compressor:
    """Makes frames at one compression level, or at the levels of ``auto``. Many threads may use it at the same time.

    For the levels of ``auto`` above the lowest, zstd takes at most ``memory`` bytes.
    """

    def __init__(self, level: Level = AUTO_LEVELS[0], *, memory: int = 0) -> None:
        self.level, *self._higher = list(AUTO_LEVELS) if level == "auto" else [level]
        self.used: set[int] = set()
        """The levels of all frames so far."""
        self._local = threading.local()
        self._contexts = _Contexts(memory)

    @property
    def held(self) -> int:
        """The bytes of memory that zstd takes for the levels of ``auto`` above the lowest."""
        return self._contexts.held

    def context_size(self, frame_size: int) -> int:
        """Return how many bytes of memory zstd itself takes in each thread: 1 MiB at level 3, 80 MiB at level 19.

        ``frame_size`` is the size of the uncompressed data, in bytes. Levels of ``auto`` above the lowest aren't counted.
        """
        return _context_size(self.level, frame_size)

    def threads(self, most: int) -> Mapping[int, int]:
        """Return the levels, in ascending order, each with the number of threads that can compress at the level at once, ``most`` at most."""
        higher = {level: min(most, self._contexts.limit // _context_size(level)) for level in self._higher}
        return {self.level: most} | {level: number for level, number in higher.items() if number}

    def is_quick(self, size: int) -> bool:
        """True if a frame of ``size`` bytes is made so quickly that handing the data to another thread would not pay."""
        return size <= _QUICK_SIZE and self.level in _QUICK_LEVELS

    def frame(self, data: bytes) -> bytes:
        """Return ``data`` as one frame of the lowest level. The frame states the size of its content and has a checksum of the content."""
        context = getattr(self._local, "context", None)
        if context is None:
            context = self._local.context = _new_context(self.level)
            self.used.add(self.level)
        compressed: bytes = context.compress(data)
        return compressed

    def compress(self, data: bytes, level: int) -> Compressed:
        """Return ``data`` as one frame of ``level``.

        If ``level`` saves too little, take the lowest level. If there is no memory for ``level``, take a lower level.
        """
        began, cpu_began = time.monotonic(), time.thread_time()
        frame, used = self._smallest(data, level)
        return Compressed(frame, used, time.monotonic() - began, time.thread_time() - cpu_began)

    def _smallest(self, data: bytes, level: int) -> tuple[bytes, int]:
        """Return the frame and its level.

        Higher levels make UUIDs, hexadecimal numbers and bytea larger. So a sample is compressed at both levels.
        """
        if (context := self._take_context(level)) is None:
            return self.frame(data), self.level
        try:
            sample = data[:_SAMPLE]
            low, high = self.frame(sample), context.frame(sample)
            if len(high) > (1 - _LEAST_GAIN) * len(low):
                return (low if len(sample) == len(data) else self.frame(data)), self.level
            self.used.add(context.level)
            return (high if len(sample) == len(data) else context.frame(data)), context.level
        finally:
            self._contexts.give_back(context)

    def _take_context(self, level: int) -> "_Context | None":
        """Return a context for the highest level up to ``level`` that has memory; None for the lowest level."""
        levels = (each for each in reversed(self._higher) if each <= level)
        return next(filter(None, map(self._contexts.take, levels)), None)


class _Context:
    """zstd's state for one frame at a time."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.size = _context_size(level)
        self._context = _new_context(level)

    def frame(self, data: bytes) -> bytes:
        compressed: bytes = self._context.compress(data)
        return compressed


class _Contexts:
    """Contexts that threads share. All together take at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        """The bytes of all contexts, in use or not."""
        self._idle: list[_Context] = []
        self._lock = threading.Lock()

    def take(self, level: int) -> _Context | None:
        """Return a context that no other thread uses; None if there is no memory for it."""
        size = _context_size(level)
        with self._lock:
            for number, idle in enumerate(self._idle):
                if idle.level == level:
                    return self._idle.pop(number)
            while self._idle and self.held + size > self.limit:
                self.held -= self._idle.pop(0).size
            if self.held + size > self.limit:
                return None
            self.held += size
        return _Context(level)

    def give_back(self, context: _Context) -> None:
        """Let other threads use the context."""
        with self._lock:
            self._idle.append(context)


def _new_context(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)


def _context_size(level: int, frame_size: int = 8 * MIB) -> int:
    parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=frame_size)
    return int(parameters.estimated_compression_context_size())


def decompress(frames: bytes | memoryview, name: str) -> Iterator[bytes]:
    """Yield the content of consecutive frames, in parts of at most 1 MiB. Raises BackupDamaged, naming ``name``, if a frame isn't whole.

    Even a few bytes of ``frames`` may decompress to terabytes, so the caller must stop after the size that it expects.
    """
    reader = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).stream_reader(frames, read_across_frames=True)
    produced = 0
    try:
        while part := reader.read(_OUTPUT):
            produced += len(part)
            yield part
    except zstandard.ZstdError as exc:
        raise BackupDamaged(f"{name} does not decompress after {produced} bytes: {exc}.") from exc
