"""A backup that is begun again where what ended it may pass."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.archive.destinations import BackupResults
from pipeline.backup.database import back_up
from pipeline.backup.request import BackupRequest
from pipeline.errors import BackupRunning, DumpInterrupted, ServerUnavailable
from pipeline.events import Notice, Notify
from storage_backends import StorageBackend

_FIRST_WAIT = 5.0  # seconds; each wait is twice the one before
_LONGEST_WAIT = 300.0  # seconds


def back_up_with_retries(
    request: BackupRequest,
    stores: Sequence[StorageBackend],
    notify: Notify,
    *,
    retries: int,
    sleep: Callable[[float], None] = time.sleep,
) -> BackupResults:
    """:func:`back_up`, begun again as :func:`with_retries` does it."""
    return with_retries(partial(back_up, request, stores, notify), notify, retries=retries, sleep=sleep)


def with_retries(
    attempt: Callable[[], BackupResults], notify: Notify, *, retries: int, sleep: Callable[[float], None] = time.sleep
) -> BackupResults:
    """A backup, begun again up to ``retries`` times after a ServerUnavailable or a DumpInterrupted, and after no other error.

    But for BackupRunning after a first try, whose own session the server may not have given up yet.
    Each time it is a new backup with an ID of its own. What the tries before left in the store has no manifest, so it is no backup.
    A store that fails isn't a reason: every request to it was repeated already.
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
