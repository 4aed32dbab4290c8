"""Parses what a person types to name a store: a URL or a path, and options."""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote

from storage_backends.errors import InvalidStorageURL
from storage_backends.keys import check_root
from storage_backends.options import GCS_OPTIONS, LOCAL_OPTIONS, S3_OPTIONS, parse_options
from storage_backends.urls import split_url

_LIKE_A_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
EMULATOR = "STORAGE_EMULATOR_HOST"
"""The environment variable that makes Google's SDK send all requests to another endpoint."""


class Place(NamedTuple):
    """A store: its scheme (``s3``, ``gs`` or ``file``), its bucket, its prefix or path, and its options."""

    scheme: str
    bucket: str
    path: str
    options: dict[str, Any]

    @property
    def url(self) -> str:
        """The URL of a bucket, as its backend gives it."""
        return f"{self.scheme}://{self.bucket}/{self.path}".rstrip("/")


def read_place(url: str, options: Mapping[str, str]) -> Place:
    """Return the place of a URL or a path. Raises InvalidStorageURL if the URL or an option is invalid."""
    if "://" not in url:
        _check_path(url)
        return _local(url, parse_options(LOCAL_OPTIONS, options, of="a local directory"))
    parts = _split(url)
    given = {**_query(url, parts), **options}
    match parts.scheme:
        case "s3":
            return Place(
                "s3", _bucket(parts), check_root(parts.path), parse_options(S3_OPTIONS, given, of="an s3:// URL")
            )
        case "gs":
            return Place(
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


def place_of(url: str, options: Mapping[str, str] | None = None) -> str:
    """Return the place of a URL as text. Two URLs of the same place give the same text.

    Raises InvalidStorageURL if the URL or an option is invalid, as :func:`open_backend` does. Imports no SDK, and needs no credentials.
    """
    place = read_place(url, options or {})
    if place.scheme == "file":
        return os.path.realpath(place.path)
    return f"{place.scheme}://{place.bucket}/{place.path} at {place.options.get('endpoint', 'the usual endpoint')}"


def is_folder(url: str) -> bool:
    """True if a URL or path names a local folder. Raises InvalidStorageURL as :func:`place_of` does."""
    return read_place(url, {}).scheme == "file"


def endpoint_of(url: str, options: Mapping[str, str], environment: Mapping[str, str]) -> str | None:
    """Return a store's endpoint from the URL, the options or the SDKs' variables; None for the vendor's own, or a directory.

    Raises InvalidStorageURL if the URL or an option is invalid.
    """
    place = read_place(url, options)
    names = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": (EMULATOR,)}.get(place.scheme, ())
    return place.options.get("endpoint") or next((environment[name] for name in names if environment.get(name)), None)


def looks_first(url: str, options: Mapping[str, str]) -> bool:
    """True if a put looks for the key first, and sends no condition. Raises InvalidStorageURL if the URL or an option is invalid."""
    return bool(read_place(url, options).options.get("create_only") == "look")


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


def _local(path: str, options: dict[str, Any]) -> Place:
    if not path or "\0" in path:
        raise InvalidStorageURL("the path of the local directory is empty or has a NUL character")
    return Place("file", "", path, options)


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
