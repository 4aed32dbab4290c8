"""Opens the backend for a URL that a person typed. An SDK is imported only if the URL needs it: the import takes a second."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from storage_backends.lazy import LazyBackend
from storage_backends.limited import LimitedBackend
from storage_backends.places import Place, read_place

if TYPE_CHECKING:
    from storage_backends.backend import StorageBackend


def open_backend(
    url: str,
    options: Mapping[str, str] | None = None,
    *,
    give_up_after: float = 300.0,
    rate: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[str], object] = lambda _: None,
    lazily: bool = False,
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

    With ``lazily``, the backend of a bucket is a :class:`LazyBackend`. The URL and the options are read at once. The SDK is imported when
    the backend is opened, so its errors come then.

    Raises:
        InvalidStorageURL: an unknown scheme or option, a missing bucket, a prefix that no key can have, or credentials in the URL.
        AccessDenied: there are no Google credentials. S3's are looked up with the first request.
        StorageError: the path isn't a directory, or the CA bundle can't be used.
    """
    place = read_place(url, options or {})
    open_it = partial(_open, place, give_up_after, rate, sleep, tell)
    if lazily and place.scheme != "file":
        return LazyBackend(place.url, place.options.get("retain_until"), open_it)
    return open_it()


def _open(
    place: Place,
    give_up_after: float,
    rate: int | None,
    sleep: Callable[[float], None],
    tell: Callable[[str], object],
) -> "StorageBackend":
    # Imported here, since tenacity alone would double the time that importing this package takes.
    from storage_backends.retrying import RetryingBackend

    inner = _connect(place)
    if rate is not None:
        inner = LimitedBackend(inner, rate, sleep=sleep)
    return RetryingBackend(inner, give_up_after=give_up_after, sleep=sleep, tell=tell)


def _connect(place: Place) -> "StorageBackend":
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
