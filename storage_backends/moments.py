"""Times that people write, and that stores tell."""

from datetime import UTC, datetime, timedelta

from storage_backends.errors import StorageError

_ANY_ZONE = timedelta(days=1)
"""No zone's time is further from UTC."""
_FIRST, _LAST = (
    datetime.min.replace(tzinfo=UTC) + _ANY_ZONE,
    datetime.max.replace(tzinfo=UTC) - _ANY_ZONE,
)


def parse_moment(text: str) -> datetime:
    """Return an ISO 8601 time in UTC; the text is local time where it names no zone.

    Raises ValueError if it is no time, or one that some zone can't tell, since Python's years end at 1 and 9999.
    """
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (OverflowError, OSError) as exc:
        raise ValueError(str(exc)) from exc
    if not _FIRST <= moment <= _LAST:
        raise ValueError(f"{text!r} is too early or too late")
    return moment


def in_utc(moment: datetime) -> datetime:
    """Return a time that a store told, in UTC. Raises StorageError if UTC can't tell it, since Python's years end at 1 and 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise StorageError(f"the store's answer made no sense (the time {moment.isoformat()})") from exc
