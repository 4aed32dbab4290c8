"""Retries, for any backend: the one place that repeats a call to a store."""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from storage_backends.backend import Body, ObjectInfo, StorageBackend
from storage_backends.errors import AccessDenied, ObjectAlreadyExists, ObjectLocked, TransientStorageError
from storage_backends.holds import ObjectLock, lock_of, set_hold
from storage_backends.overwriting import overwrite
from storage_backends.versions import get_version

_T = TypeVar("_T")

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 20.0
_LONGEST_SILENCE = 60.0
"""Seconds of a failed attempt that count, at most, as time without progress: the default read timeout."""
_LIST_STEP = 1000
"""Objects listed between two points from which a listing can be taken up again: S3's and GCS's page."""


class RetryingBackend:
    """``inner``, with every call repeated while it raises TransientStorageError, and no other error.

    Waits grow exponentially with `full jitter`_, from half a second to twenty. No attempt is begun ``give_up_after``
    seconds after the first failure; the error then raised says how many attempts there were. Of each later attempt, at most one
    minute counts, since it was sending before, however slowly. A listing has ``give_up_after`` for each thousand objects.

    ``sleep`` is called with the seconds to wait between attempts: to cut a wait short, give one that returns early or
    raises, as one that waits for a cancellation does. ``clock`` counts in seconds.

    .. _full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(
        self,
        inner: StorageBackend,
        *,
        give_up_after: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._give_up_after = give_up_after
        self._sleep = sleep
        self._clock = clock

    def with_patience(self, seconds: float) -> "RetryingBackend":
        """Return a backend over the same ``inner`` that gives up after so many seconds, or sooner if this one does."""
        patience = min(seconds, self._give_up_after)
        return RetryingBackend(self._inner, give_up_after=patience, sleep=self._sleep, clock=self._clock)

    @property
    def url(self) -> str:
        """The inner backend's."""
        return self._inner.url

    @property
    def retained_until(self) -> datetime | None:
        """The inner backend's."""
        return self._inner.retained_until

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object; see :meth:`StorageBackend.put`.

        A try that seemed to fail may have created the object, and the next then finds it there. That is success if the
        object has this body, which its size and SHA-256 tell (by reading it back, where the store keeps no SHA-256).

        Where the credentials may create but not read, nothing can be compared, and the object is taken for this
        call's own: a caller who gives every object a fresh key has no other writer to confuse it with, and the store
        checked what it took. The info returned is then of what was sent, without a checksum of the store's and without a version.
        """
        tries = itertools.count(1)

        def put_once() -> ObjectInfo:
            first = next(tries) == 1
            try:
                return self._inner.put(key, body, sha256=sha256)
            except ObjectAlreadyExists:
                if first:
                    raise
                if (info := self._own(key, body, sha256)) is None:
                    raise
                return info

        return self._call(put_once)

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """The object's bytes; see :meth:`StorageBackend.get`."""
        return self._call(lambda: self._inner.get(key, offset=offset, length=length, at_most=at_most))

    def get_version(self, key: str, version: str, *, at_most: int) -> bytes:
        """The bytes of a version; see :meth:`VersionedBackend.get_version`."""
        return self._call(lambda: get_version(self._inner, key, version, at_most=at_most))

    def head(self, key: str) -> ObjectInfo:
        """What is known of the object; see :meth:`StorageBackend.head`."""
        return self._call(lambda: self._inner.head(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object under ``prefix`` in key order, each once; see :meth:`StorageBackend.list`."""
        listing: Iterator[ObjectInfo] | None = None
        last = ""

        def next_step() -> tuple[ObjectInfo, ...]:
            nonlocal listing
            if listing is None:
                # Code points order as their UTF-8 bytes do, so comparing str finds the place.
                listing = itertools.dropwhile(lambda info: info.key <= last, self._inner.list(prefix))
            try:
                return tuple(itertools.islice(listing, _LIST_STEP))
            except TransientStorageError:
                listing = None
                raise

        while step := self._call(next_step):
            yield from step
            last = step[-1].key

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects, a thousand to a call of the inner backend; see :meth:`StorageBackend.delete`."""
        remaining = iter(keys)
        locked: dict[str, datetime | None] = {}
        while batch := tuple(itertools.islice(remaining, _LIST_STEP)):
            try:
                self._call(partial(self._inner.delete, batch))
            except ObjectLocked as exc:
                locked |= exc.objects
        if locked:
            raise ObjectLocked(self.url, locked)

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a legal hold on the object, or take it off; see :meth:`HoldingBackend.set_hold`."""
        self._call(lambda: set_hold(self._inner, key, held=held))

    def overwrite(self, key: str, body: bytes) -> None:
        """Put without a condition; see :meth:`OverwritingBackend.overwrite`."""
        self._call(lambda: overwrite(self._inner, key, body))

    def lock_of(self, key: str) -> ObjectLock:
        """Return what locks the object; see :meth:`HoldingBackend.lock_of`."""
        return self._call(lambda: lock_of(self._inner, key))

    def close(self) -> None:
        """Close the inner backend."""
        self._inner.close()

    def _own(self, key: str, body: Body, sha256: bytes) -> ObjectInfo | None:
        """What is known of the object under ``key`` if it has this body, else None."""
        size = memoryview(body).nbytes
        try:
            info = self._inner.head(key)
            if info.size != size:
                return None
            algorithm, _, digest = (info.checksum or "").partition(":")
            same = (
                digest == sha256.hex()
                if algorithm == "sha256"
                else hashlib.sha256(self._inner.get(key)).digest() == sha256
            )
        except AccessDenied:
            return ObjectInfo(key, size, datetime.now(UTC))
        return info if same else None

    def _call(self, call: Callable[[], _T]) -> _T:
        patience = _Patience(self._give_up_after, self._clock)
        retrying = Retrying(
            retry=retry_if_exception_type(TransientStorageError),
            wait=wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
            before=patience.begin,
            stop=patience.is_over,
            sleep=self._sleep,
            retry_error_callback=patience.give_up,
        )
        return retrying(call)


def with_patience(store: StorageBackend, seconds: float) -> StorageBackend:
    """Return a store that repeats no call for longer than so many seconds; ``store`` itself if it repeats none."""
    return store.with_patience(seconds) if isinstance(store, RetryingBackend) else store


class _Patience:
    """How long one call has been failing; each method is a hook of tenacity's."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._first = self._begun = clock()
        self._failing_since: float | None = None

    def begin(self, _: RetryCallState) -> None:
        self._begun = self._clock()

    def is_over(self, state: RetryCallState) -> bool:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        else:
            # Time in which the attempt made progress, however slowly, doesn't count.
            self._failing_since += max(0.0, now - self._begun - _LONGEST_SILENCE)
        return now - self._failing_since + state.upcoming_sleep >= self._seconds

    def give_up(self, state: RetryCallState) -> object:
        assert state.outcome is not None  # noqa: S101  (tenacity calls this only after a failed attempt)
        error = state.outcome.exception()
        attempts = "1 attempt" if state.attempt_number == 1 else f"{state.attempt_number} attempts"
        took = self._clock() - self._first
        raise TransientStorageError(f"{error} (gave up after {attempts} in {took:.0f} s)") from error
