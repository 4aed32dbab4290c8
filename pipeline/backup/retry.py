"""Retries a backup after an error that may be temporary."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.archive.destinations import BackupResults
from pipeline.backup.database import back_up
from pipeline.backup.request import BackupRequest
from pipeline.errors import BackupRunning, DumpInterrupted, ServerUnavailable
from pipeline.events import Notice, Notify
from storage_backends import StorageBackend

_FIRST_WAIT = 5.0  # seconds; each later wait is twice as long
_LONGEST_WAIT = 300.0  # seconds


def back_up_with_retries(
    request: BackupRequest,
    stores: Sequence[StorageBackend],
    notify: Notify,
    *,
    retries: int,
    sleep: Callable[[float], None] = time.sleep,
) -> BackupResults:
    """Return the results of :func:`back_up`, with up to ``retries`` retries as in :func:`with_retries`. Raises as :func:`back_up` does."""
    return with_retries(partial(back_up, request, stores, notify), notify, retries=retries, sleep=sleep)


def with_retries(
    attempt: Callable[[], BackupResults], notify: Notify, *, retries: int, sleep: Callable[[float], None] = time.sleep
) -> BackupResults:
    """Call ``attempt`` and return its results. Call it again, up to ``retries`` times, after ServerUnavailable or DumpInterrupted.

    If the first attempt raises BackupRunning, raise it. After a later attempt, retry, because the server may still have the session of the
    previous attempt. Raise any other error at once, even a store's error, because each request to the store was already retried.

    Each attempt is a new backup with its own ID. A failed attempt leaves objects in the store, but without a manifest they are no backup.

    ``sleep`` gets the seconds to wait: 5 after the first attempt, then twice as long each time, up to 300.
    """
    for retry in range(1, retries + 1):
        try:
            return attempt()
        except (ServerUnavailable, DumpInterrupted, BackupRunning) as exc:
            if retry == 1 and isinstance(exc, BackupRunning):
                raise
            wait = min(_FIRST_WAIT * 2 ** (retry - 1), _LONGEST_WAIT)
            notify(Notice(f"{exc} A new backup begins in {wait:.0f} s (retry {retry} of {retries})."))
        sleep(wait)
    return attempt()
