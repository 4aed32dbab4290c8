"""Parses times that people write, and checks times that stores report."""

from datetime import UTC, datetime, timedelta

from storage_backends.errors import StorageError

_ANY_ZONE = timedelta(days=1)
"""No time zone differs more from UTC."""
_FIRST, _LAST = (
    datetime.min.replace(tzinfo=UTC) + _ANY_ZONE,
    datetime.max.replace(tzinfo=UTC) - _ANY_ZONE,
)


def parse_moment(text: str) -> datetime:
    """Return an ISO 8601 time in UTC. Text without a zone is local time.

    Raises ValueError for other text, and for a time that falls outside of Python's years, 1 to 9999, in some zone.
    """
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (OverflowError, OSError) as exc:
        raise ValueError(str(exc)) from exc
    if not _FIRST <= moment <= _LAST:
        raise ValueError(f"{text!r} is too early or too late")
    return moment


def in_utc(moment: datetime) -> datetime:
    """Return a time that a store reported, in UTC. Raises StorageError if UTC's year for it isn't one of Python's, 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise StorageError(f"the store's answer made no sense (the time {moment.isoformat()})") from exc
