"""The checksum of a file whose pieces pass through several threads."""

import threading

from pipeline.trust.seal import Digest


class OrderedDigest:
    """The digest and the number of newlines of one file. Many threads may add its pieces at the same time.

    ``digest`` takes bytes only in order. So a thread waits until all earlier pieces are added. The threads never wait for each other in a
    circle if they take the pieces in the file's order, as the threads of a :class:`Pool` do.
    """

    def __init__(self, digest: Digest) -> None:
        self.lines = 0
        """Newlines in the pieces that are added."""
        self._digest = digest
        self._added = 0
        self._changed = threading.Condition()

    def add(self, index: int, data: bytes) -> None:
        """Add the file's piece number ``index``, from 0. Wait for the earlier pieces."""
        lines = data.count(b"\n")
        with self._changed:
            self._changed.wait_for(lambda: self._added == index)
        self._digest.update(data)  # without the lock: no other thread has this turn
        with self._changed:
            self.lines += lines
            self._added += 1
            self._changed.notify_all()

    def hexdigest(self) -> str:
        """Return the digest of the pieces that are added, in hexadecimal."""
        return self._digest.hexdigest()
