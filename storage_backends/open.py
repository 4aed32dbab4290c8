"""Opens the backend for a URL that a person typed. An SDK is imported only if the URL needs it: the import takes a second."""

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote

from storage_backends.errors import InvalidStorageURL
from storage_backends.keys import check_root
from storage_backends.limited import LimitedBackend
from storage_backends.options import GCS_OPTIONS, LOCAL_OPTIONS, S3_OPTIONS, parse_options
from storage_backends.urls import split_url

if TYPE_CHECKING:
    from storage_backends.backend import StorageBackend

EMULATOR = "STORAGE_EMULATOR_HOST"
"""The environment variable that makes Google's SDK send all requests to another endpoint."""
_LIKE_A_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def open_backend(
    url: str,
    options: Mapping[str, str] | None = None,
    *,
    give_up_after: float = 300.0,
    rate: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[str], object] = lambda _: None,
) -> "StorageBackend":
    """Return the backend for ``url``. It retries a call for up to ``give_up_after`` seconds, and transfers ``rate`` bytes a second at most.

    ========================  ====================================================================================
    URL                       options, in the URL's query or in ``options``, which win
    ========================  ====================================================================================
    ``s3://bucket/prefix``    ``endpoint``, ``region``, ``profile``, ``path_style`` (true, false), ``storage_class``,
                              ``ca_bundle``, ``kms_key``, ``checksum`` (sha256, md5), ``create_only`` (condition, look),
                              ``connect_timeout``, ``read_timeout`` (seconds), ``allow_http`` (true, false),
                              ``retain_days``, ``retain_until``, ``lock_mode`` (governance, compliance)
    ``gs://bucket/prefix``    ``endpoint``, ``ca_bundle``, ``project``, ``storage_class``, ``kms_key``, ``connect_timeout``,
                              ``read_timeout``, ``allow_http``, ``retain_days``, ``retain_until``, ``lock_mode``
    ``file:///path`` or path  ``create`` (true, false); a path is taken as it is, a file URL is percent-decoded
    ========================  ====================================================================================

    With ``allow_http``, an endpoint of ``http://`` may be on another machine.
    With ``retain_until`` (ISO 8601), or ``retain_days`` from now on, each object that is put is locked until then.

    Bucket and prefix are taken as they are, without percent-decoding. Credentials come from the SDK's own chain, never
    from the URL. ``sleep`` is :class:`RetryingBackend`'s and :class:`LimitedBackend`'s, and ``tell``
    is :class:`RetryingBackend`'s. If ``rate`` is None, there is no limit.

    Raises:
        InvalidStorageURL: an unknown scheme or option, a missing bucket, a prefix that no key can have, or credentials in the URL.
        AccessDenied: there are no Google credentials. S3's are looked up with the first request.
        StorageError: the path isn't a directory, or the CA bundle can't be used.
    """
    # Imported here, since tenacity alone would double the time that importing this package takes.
    from storage_backends.retrying import RetryingBackend

    inner = _open(url, options or {})
    if rate is not None:
        inner = LimitedBackend(inner, rate, sleep=sleep)
    return RetryingBackend(inner, give_up_after=give_up_after, sleep=sleep, tell=tell)


def place_of(url: str, options: Mapping[str, str] | None = None) -> str:
    """Return the place of a URL as text. Two URLs of the same place give the same text.

    Raises InvalidStorageURL if the URL or an option is invalid, as :func:`open_backend` does. Imports no SDK, and needs no credentials.
    """
    place = _read(url, options or {})
    if place.scheme == "file":
        return os.path.realpath(place.path)
    return f"{place.scheme}://{place.bucket}/{place.path} at {place.options.get('endpoint', 'the usual endpoint')}"


def is_folder(url: str) -> bool:
    """True if a URL or path names a local folder. Raises InvalidStorageURL as :func:`place_of` does."""
    return _read(url, {}).scheme == "file"


def endpoint_of(url: str, options: Mapping[str, str], environment: Mapping[str, str]) -> str | None:
    """Return a store's endpoint from the URL, the options or the SDKs' variables; None for the vendor's own, or a directory.

    Raises InvalidStorageURL if the URL or an option is invalid.
    """
    place = _read(url, options)
    names = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": (EMULATOR,)}.get(place.scheme, ())
    return place.options.get("endpoint") or next((environment[name] for name in names if environment.get(name)), None)


def looks_first(url: str, options: Mapping[str, str]) -> bool:
    """True if a put looks for the key first, and sends no condition. Raises InvalidStorageURL if the URL or an option is invalid."""
    return bool(_read(url, options).options.get("create_only") == "look")


def _open(url: str, options: Mapping[str, str]) -> "StorageBackend":
    place = _read(url, options)
    match place.scheme:
        case "s3":
            from storage_backends.s3 import S3Backend

            return S3Backend(place.bucket, place.path, **place.options)
        case "gs":
            from storage_backends.gcs import GCSBackend

            return GCSBackend(place.bucket, place.path, **place.options)
        case _:
            from storage_backends.local import LocalBackend

            return LocalBackend(Path(place.path), create=place.options.get("create", False))


class _Place(NamedTuple):
    scheme: str
    bucket: str
    path: str
    options: dict[str, Any]


def _read(url: str, options: Mapping[str, str]) -> _Place:
    if "://" not in url:
        _check_path(url)
        return _local(url, parse_options(LOCAL_OPTIONS, options, of="a local directory"))
    parts = _split(url)
    given = {**_query(url, parts), **options}
    match parts.scheme:
        case "s3":
            return _Place(
                "s3", _bucket(parts), check_root(parts.path), parse_options(S3_OPTIONS, given, of="an s3:// URL")
            )
        case "gs":
            return _Place(
                "gs", _bucket(parts), check_root(parts.path), parse_options(GCS_OPTIONS, given, of="a gs:// URL")
            )
        case "file":
            if parts.netloc not in ("", "localhost"):
                raise InvalidStorageURL(
                    f"the storage URL names the host {parts.netloc}; a local directory is file:///path"
                )
            return _local(unquote(parts.path), parse_options(LOCAL_OPTIONS, given, of="a file:// URL"))
        case scheme:
            raise InvalidStorageURL(
                f"{scheme}:// is no known store; use s3://bucket/prefix, gs://bucket/prefix or a path"
            )


def _check_path(path: str) -> None:
    """Raise InvalidStorageURL for a path that begins like a URL or with “~”. As a path, it would name a folder called “s3:” or “~”."""
    if path.startswith("~"):
        raise InvalidStorageURL("the shell replaces “~” at a word's beginning alone: write the whole path, or ./~…")
    if (scheme := _LIKE_A_SCHEME.match(path)) is not None:
        wanted = {"s3": "s3://bucket/prefix", "gs": "gs://bucket/prefix", "file": "file:///path"}
        known = wanted.get(scheme[1].lower(), ", ".join(wanted.values()))
        raise InvalidStorageURL(
            f"a path can't begin with “{scheme[0]}”; write {known}, or ./{scheme[0]}… if a folder has that name"
        )


def _local(path: str, options: dict[str, Any]) -> _Place:
    if not path or "\0" in path:
        raise InvalidStorageURL("the path of the local directory is empty or has a NUL character")
    return _Place("file", "", path, options)


def _split(url: str) -> SplitResult:
    try:
        parts = split_url(url)
    except ValueError as exc:
        raise InvalidStorageURL(f"the storage URL can't be read: {exc}") from exc
    # Not one of these sentences repeats the URL: what stands before the “@” may be a secret.
    if "@" in parts.netloc:
        raise InvalidStorageURL("a storage URL may not have credentials in it; use a profile or the environment")
    if parts.fragment or url.endswith("#"):
        raise InvalidStorageURL("a storage URL may not have “#” in it")
    return parts


def _bucket(parts: SplitResult) -> str:
    if not parts.netloc:
        raise InvalidStorageURL(f"the storage URL names no bucket; write {parts.scheme}://bucket/prefix")
    return parts.netloc


def _query(url: str, parts: SplitResult) -> dict[str, str]:
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as exc:
        raise InvalidStorageURL(f"the options of {url.partition('?')[0]} can't be read: {exc}") from exc
    if len(dict(pairs)) != len(pairs):
        raise InvalidStorageURL(f"an option of {url.partition('?')[0]} is given twice")
    return dict(pairs)
