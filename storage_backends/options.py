"""The options that a store's URL may have, and their values."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from storage_backends.errors import InvalidStorageURL
from storage_backends.moments import parse_moment
from storage_backends.urls import check_encrypted, split_web_url

Known: TypeAlias = Mapping[str, Callable[[str], Any]]
"""For each option, the function that reads its value, or raises ValueError."""
_LONGEST_WAIT = 86400
"""Seconds: a day."""
_MOST_DAYS = 36500
"""A hundred years: the most that S3 and GCS take."""


def parse_options(known: Known, given: Mapping[str, str], *, of: str) -> dict[str, Any]:
    """Return the values of the ``given`` options. ``of`` says in errors which kind of URL has the options ``known``.

    ``retain_days`` becomes ``retain_until``. Raises InvalidStorageURL if an option is unknown or has an invalid value.
    """
    parsed = {}
    for name, value in given.items():
        if name not in known:
            choice = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise InvalidStorageURL(f"“{name}” is no option of {of}; {choice}")
        try:
            parsed[name] = known[name](value)
        except ValueError as exc:
            raise InvalidStorageURL(f"the option {name} of {of} {exc}") from exc
    if (by_days := parsed.pop("retain_days", None)) is not None:
        parsed.setdefault("retain_until", by_days)
    if "endpoint" in parsed:
        check_encrypted(parsed["endpoint"], allow_http=parsed.get("allow_http", False))
    return parsed


def _text(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    return value


def _file(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("must be the path of a file")
    return value


def _flag(value: str) -> bool:
    match value:
        case "true":
            return True
        case "false":
            return False
        case _:
            raise ValueError("must be true or false")


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_WAIT:
        raise ValueError(f"must be a number of seconds above 0, and at most {_LONGEST_WAIT}")
    return seconds


def _s3_storage_class(value: str) -> str:
    if value in ("GLACIER", "DEEP_ARCHIVE"):
        raise ValueError(
            f"can't be {value}: its objects can't be read immediately, but pgstow must always be able to read manifests; "
            "let a lifecycle rule move data/ there"
        )
    return _text(value)


def _endpoint(value: str) -> str:
    try:
        parts = split_web_url(value)
    except ValueError:
        raise ValueError("must be like https://host:port") from None
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ValueError("must be like https://host:port")
    if "@" in parts.netloc:
        raise ValueError("may not have credentials in it")
    return value.rstrip("/")


def _one_of(first: str, second: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in (first, second):
            raise ValueError(f"must be {first} or {second}")
        return value

    return parse


def _retain_days(value: str) -> datetime:
    """Return the end of the lock, so many days from now: a whole second, since S3 takes no fractions. Raises ValueError."""
    if not (value.isdecimal() and len(value) < 9 and 0 < int(value) <= _MOST_DAYS):
        raise ValueError(f"must be a number of days, up to {_MOST_DAYS}")
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=int(value), seconds=1)


def _retain_until(value: str) -> datetime:
    try:
        return parse_moment(value)
    except ValueError as exc:
        raise ValueError("must be a time like 2026-12-31T00:00:00Z") from exc


_COMMON: Known = {
    "retain_days": _retain_days,
    "retain_until": _retain_until,
    "lock_mode": _one_of("governance", "compliance"),
    "endpoint": _endpoint,
    "ca_bundle": _file,
    "kms_key": _text,
    "allow_http": _flag,
    "connect_timeout": _seconds,
    "read_timeout": _seconds,
}
LOCAL_OPTIONS: Known = {"create": _flag}
S3_OPTIONS: Known = {
    **_COMMON,
    "region": _text,
    "profile": _text,
    "path_style": _flag,
    "storage_class": _s3_storage_class,
    "checksum": _one_of("sha256", "md5"),
    "create_only": _one_of("condition", "look"),
}
GCS_OPTIONS: Known = {**_COMMON, "project": _text, "storage_class": _text}
