"""Begin a backup again after an error that may pass."""

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
    """Return the results of ``attempt``. Call it again, up to ``retries`` times, after ServerUnavailable or DumpInterrupted.

    BackupRunning is raised after the first attempt. Later it is retried too: the server may still keep the session of the previous attempt.
    Any other error is raised at once, a store's too, since every request to the store was retried already.

    Each attempt is a new backup with its own ID. A failed attempt leaves objects in the store, but no manifest, and so no backup.
    ``sleep`` takes seconds: 5 after the first attempt, then twice as many each time, up to 300.
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
