"""Compresses and decompresses independent zstd frames (RFC 8878). Only this module imports zstandard."""

import threading
from collections.abc import Iterator

import zstandard

from pipeline.errors import BackupDamaged

DEFAULT_LEVEL = 3
LEVELS = range(1, 20)  # from level 20 on, decompression needs more memory than the frame's size
_QUICK_LEVELS = range(1, 6)
_QUICK_SIZE = 16 * 1024  # bytes
_OUTPUT = 1024 * 1024
_LARGEST_WINDOW = 8 * 1024 * 1024
"""The largest window of a frame that pgstow decompresses, in bytes. RFC 8878 (3.1.1.1.2) asks readers to support at least this size.
pgstow's own frames need no larger window."""


class Compressor:
    """Makes frames at one compression level. Many threads may use it at the same time."""

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        self.level = level
        self._local = threading.local()

    def context_size(self, frame_size: int) -> int:
        """Return how many bytes of memory zstd itself takes in each thread: 1 MiB at level 3, 80 MiB at level 19.

        ``frame_size`` is the size of the uncompressed data, in bytes.
        """
        parameters = zstandard.ZstdCompressionParameters.from_level(self.level, source_size=frame_size)
        return int(parameters.estimated_compression_context_size())

    def is_quick(self, size: int) -> bool:
        """True if a frame of ``size`` bytes is made so quickly that handing the data to another thread would not pay."""
        return size <= _QUICK_SIZE and self.level in _QUICK_LEVELS

    def frame(self, data: bytes) -> bytes:
        """Return ``data`` as one frame, which states the size of its content and carries a checksum of the content."""
        context = getattr(self._local, "context", None)
        if context is None:
            context = zstandard.ZstdCompressor(level=self.level, write_checksum=True, write_content_size=True)
            self._local.context = context
        compressed: bytes = context.compress(data)
        return compressed


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
