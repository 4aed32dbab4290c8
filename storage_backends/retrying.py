"""Retries, for any backend. Nothing else repeats a call to a store."""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from storage_backends.backend import Body, ObjectInfo, StorageBackend
from storage_backends.errors import AccessDenied, ObjectAlreadyExists, ObjectLocked, TransientStorageError
from storage_backends.holds import ObjectLock, lock_of, may_lock, set_hold
from storage_backends.lazy import LazyBackend
from storage_backends.overwriting import overwrite
from storage_backends.versions import get_version

_T = TypeVar("_T")

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 20.0
_WAIT = wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT)
_LONGEST_SILENCE = 60.0
"""The most seconds of one failed attempt that count as time without progress. The default read timeout is as long."""
_TOLD_AFTER = 2  # attempts that failed
_TELL_INTERVAL = 30.0  # seconds
_LIST_STEP = 1000
"""Objects between two points at which a listing can be continued: the size of S3's and GCS's pages."""


class RetryingBackend:
    """``inner``, with each call repeated as long as it raises TransientStorageError. All other errors pass at once.

    Waits are random (`full jitter`_). Their bound grows exponentially from half a second to twenty. The call is
    repeated for ``give_up_after`` seconds after its first failure. Of each later attempt, at most one minute counts towards this time: a
    longer attempt made progress. The last TransientStorageError then says how many attempts there were. A listing has ``give_up_after``
    for each thousand objects.

    ``sleep`` is called with the seconds to wait between attempts. A ``sleep`` that returns early, or raises, cuts the wait short.
    ``clock`` counts in seconds. ``tell`` gets a sentence when a call has failed twice and is tried again: at most one in 30 seconds, in
    the thread of the call.

    .. _full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(
        self,
        inner: StorageBackend,
        *,
        give_up_after: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._inner = inner
        self._give_up_after = give_up_after
        self._sleep = sleep
        self._clock = clock
        self._tell = tell
        self._quiet_until = clock()

    def with_patience(self, seconds: float) -> "RetryingBackend":
        """Return a backend over the same ``inner`` that gives up after ``seconds``, or sooner if this backend does."""
        patience = min(seconds, self._give_up_after)
        return RetryingBackend(
            self._inner, give_up_after=patience, sleep=self._sleep, clock=self._clock, tell=self._tell
        )

    @property
    def url(self) -> str:
        """The inner backend's URL."""
        return self._inner.url

    @property
    def retained_until(self) -> datetime | None:
        """The inner backend's; see :attr:`StorageBackend.retained_until`."""
        return self._inner.retained_until

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object. Return its metadata; see :meth:`StorageBackend.put`.

        An attempt that seemed to fail may have created the object. The next attempt then finds the key taken. The put has succeeded if
        the object's size and SHA-256 are those of ``body``. If the store keeps no SHA-256, the object is read back.

        If the credentials may create but not read, the object counts as this call's own: callers give each object a fresh key, and
        the store checked the body. The returned metadata then has no checksum and no version, and its time is by this machine's clock.
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
        """Return the object's bytes; see :meth:`StorageBackend.get`."""
        return self._call(lambda: self._inner.get(key, offset=offset, length=length, at_most=at_most))

    def get_version(self, key: str, version: str, *, at_most: int) -> bytes:
        """Return the bytes of a version; see :meth:`VersionedBackend.get_version`."""
        return self._call(lambda: get_version(self._inner, key, version, at_most=at_most))

    def head(self, key: str) -> ObjectInfo:
        """Return the object's metadata; see :meth:`StorageBackend.head`."""
        return self._call(lambda: self._inner.head(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under ``prefix`` in key order, each once; see :meth:`StorageBackend.list`."""
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

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete the objects, a thousand in a call of the inner backend; see :meth:`StorageBackend.delete`."""
        remaining = iter(keys)
        locked: dict[str, datetime | None] = {}
        hidden = False
        while batch := tuple(itertools.islice(remaining, _LIST_STEP)):
            try:
                hidden |= self._call(partial(self._inner.delete, batch))
            except ObjectLocked as exc:
                locked |= exc.objects
                hidden |= exc.hidden
        if locked:
            raise ObjectLocked(self.url, locked, hidden=hidden)
        return hidden

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a legal hold on the object, or take it off; see :meth:`HoldingBackend.set_hold`."""
        self._call(lambda: set_hold(self._inner, key, held=held))

    def overwrite(self, key: str, body: bytes) -> None:
        """Put without a condition; see :meth:`OverwritingBackend.overwrite`."""
        self._call(lambda: overwrite(self._inner, key, body))

    def may_lock(self) -> bool:
        """Return False if the inner backend surely has no locks; see :meth:`HoldingBackend.may_lock`."""
        return self._call(lambda: may_lock(self._inner))

    def lock_of(self, key: str) -> ObjectLock:
        """Return the locks on the object; see :meth:`HoldingBackend.lock_of`."""
        return self._call(lambda: lock_of(self._inner, key))

    def close(self) -> None:
        """Close the inner backend."""
        self._inner.close()

    def _own(self, key: str, body: Body, sha256: bytes) -> ObjectInfo | None:
        """Return the metadata of the object under ``key`` if the object has this body or can't be read; else None."""
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
            wait=lambda state: min(_WAIT(state), patience.left),
            before=patience.begin,
            stop=patience.is_over,
            before_sleep=lambda state: self._tell_retry(state, patience),
            sleep=self._sleep,
            retry_error_callback=patience.give_up,
        )
        return retrying(call)

    def _tell_retry(self, state: RetryCallState, patience: "_Patience") -> None:
        now = self._clock()
        if state.attempt_number < _TOLD_AFTER or now < self._quiet_until or state.outcome is None:
            return
        self._quiet_until = now + _TELL_INTERVAL
        until = datetime.now().astimezone() + timedelta(seconds=patience.left)
        self._tell(f"{state.outcome.exception()}; retrying until {until:%H:%M:%S} (attempt {state.attempt_number + 1})")


def with_patience(store: StorageBackend, seconds: float) -> StorageBackend:
    """Return a store that repeats no call for longer than ``seconds``; ``store`` itself if it repeats no calls.

    Opens a LazyBackend, and raises the errors of opening it.
    """
    opened = store.opened() if isinstance(store, LazyBackend) else store
    return opened.with_patience(seconds) if isinstance(opened, RetryingBackend) else store


class _Patience:
    """The time for which one call has been failing. Each method is a hook of tenacity's."""

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
        return now - self._failing_since >= self._seconds

    @property
    def left(self) -> float:
        """The seconds in which another attempt may begin."""
        since = self._clock() if self._failing_since is None else self._failing_since
        return max(0.0, since + self._seconds - self._clock())

    def give_up(self, state: RetryCallState) -> object:
        assert state.outcome is not None  # noqa: S101  (tenacity calls this only after a failed attempt)
        error = state.outcome.exception()
        attempts = "1 attempt" if state.attempt_number == 1 else f"{state.attempt_number} attempts"
        took = self._clock() - self._first
        raise TransientStorageError(f"{error} (gave up after {attempts} in {took:.0f} s)") from error
