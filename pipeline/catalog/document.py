"""Reads and writes manifests and attestations as canonical bytes with a checksum: see :mod:`pipeline.catalog.canonical_json`.

A document is split at its top level. So a reader can leave out a list of a million items, or read the list in parts.

An attacker who may write to the store can replace a document by any bytes. So the functions here limit depth, fields and numbers, and
raise the same error for any bytes that aren't valid.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import msgspec
from pydantic import TypeAdapter, ValidationError

from pipeline.catalog.canonical_json import Model, brief, canonical_bytes, check_depth, parse_canonical
from pipeline.errors import ManifestInvalid

_BATCH = 1000  # items of a list that are parsed at once
_MOST_FIELDS = 1000  # at a document's top level: a manifest has about thirty, and each takes some 500 bytes of memory
_NOT_JSON = (ValueError, OverflowError, RecursionError)
"""The exceptions of json, msgspec and pydantic for bytes that aren't JSON, or whose values are out of bounds."""

_M = TypeVar("_M", bound=Model)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document whose checksum is right. Its bytes are canonical, except perhaps the bytes of the lists that are kept apart."""

    kind: str
    key: str
    sha256: str
    """SHA-256 of the document's bytes, in hexadecimal."""
    content: Mapping[str, Any]
    """The document's values by their names, without the checksum and the lists that are kept apart."""
    apart: Mapping[str, memoryview]
    """The JSON of each list that is kept apart. The views keep the whole document in memory."""

    def model(self, model: type[_M], **lists: Any) -> _M:
        """Return the document as a model, with these values for the lists that are kept apart. Raises ManifestInvalid."""
        try:
            return model.model_validate({**self.content, **lists})
        except _NOT_JSON as exc:
            raise self.invalid(exc) from exc

    def items(self, name: str, kind: TypeAdapter[list[_T]]) -> list[_T]:
        """Return a list that is kept apart, as pydantic's types.

        Needs little memory beyond the result, since it parses the items in batches. Raises ManifestInvalid if an item isn't valid, or if
        the bytes aren't canonical.
        """
        found = list[_T]()
        raw = self.glance(name, msgspec.Raw)
        if self.apart[name].nbytes != len("[]") + sum(map(len, raw)) + max(0, len(raw) - 1):
            raise self._altered()  # there is white space between the items
        for start in range(0, len(raw), _BATCH):
            try:
                batch, canonical = parse_canonical(b"[" + b",".join(raw[start : start + _BATCH]) + b"]")
            except _NOT_JSON as exc:
                raise self._not_whole(exc) from exc
            if not canonical:
                raise self._altered()
            try:
                found += kind.validate_python(batch)
            except _NOT_JSON as exc:
                raise self.invalid(exc, name, start) from exc
        return found

    def glance(self, name: str, item: type[_T]) -> list[_T]:
        """Return a list that is kept apart, as msgspec's types. Fields that ``item`` doesn't have are skipped without a check.

        Raises ManifestInvalid if the document lacks the list, or if an item has another type.
        """
        if name not in self.apart:
            raise self.invalid(ValueError("Field required"), name)
        try:
            return msgspec.json.decode(self.apart[name], type=list[item])  # type: ignore[valid-type]
        except msgspec.ValidationError as exc:
            raise self.invalid(exc, name) from exc
        except _NOT_JSON as exc:
            raise self._not_whole(exc) from exc

    def invalid(self, error: Exception, name: str = "", start: int = 0) -> ManifestInvalid:
        """Return the error for values that aren't valid. With ``name``, they are items of this list, from the item ``start`` on."""
        place: tuple[int | str, ...] = (name,) if name else ()
        if isinstance(error, ValidationError):
            first = error.errors(include_input=False)[0]
            said, place = first["msg"].removeprefix("Value error, "), (*place, *first["loc"])
            if name and len(place) > 1 and isinstance(place[1], int):
                place = (name, start + place[1], *place[2:])
        else:
            said = str(error)
        where = brief(".".join(map(str, place))) or "as a whole"
        return ManifestInvalid(f"The {self.kind} {self.key} is not valid: {where}: {brief(said)}.")

    def _not_whole(self, error: Exception) -> ManifestInvalid:
        return _not_whole(self.kind, self.key, error)

    def _altered(self) -> ManifestInvalid:
        return _altered(self.kind, self.key)


def dump_document(document: Model, kind: str, lists: Mapping[str, bytes | memoryview] | None = None) -> bytes:
    """Return a document's canonical bytes.

    ``lists`` has the canonical bytes of the fields that are kept apart, by their names. The field ``<kind>_checksum`` gets the SHA-256, in
    hexadecimal, of the canonical bytes of all other fields. Raises ValueError for values that JSON and UTF-8 can't represent.
    """
    checksum, lists = f"{kind}_checksum", lists or {}
    content = document.model_dump(mode="json", exclude={*lists, checksum})
    digest = hashlib.sha256()
    for _, part in _parts(content, lists):
        digest.update(part)
    content[checksum] = digest.hexdigest()
    return b"".join(part for _, part in _parts(content, lists))


def open_document(data: bytes, kind: str, key: str, *, version: str, apart: Collection[str] = ()) -> Document:
    """Check and split the bytes that :func:`dump_document` wrote. ``version`` is the version that this pgstow writes.

    ``kind`` is ``manifest`` or ``attestation``. The fields for the version and the checksum are named after the kind. Fields in ``apart``
    are kept apart. Their bytes are covered by the checksum, but aren't parsed.

    Raises ManifestInvalid, with ``key`` in its text, for any other bytes. Examples are altered white space, nesting that is too deep,
    numbers out of bounds, and a newer major version.
    """
    checksum = f"{kind}_checksum"
    try:
        raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if len(raw) > _MOST_FIELDS:
            raise ValueError("it has too many fields")
        lists = {name: memoryview(raw.pop(name)) for name in apart if name in raw}
        values = b"[" + b",".join(raw.values()) + b"]"
        check_depth(values)
        content = dict(zip(raw, json.loads(values), strict=True))
        claimed = content.pop(checksum, None)
        digests = _digests(data, content, {**lists, checksum: canonical_bytes(claimed)}, checksum)
    except msgspec.ValidationError as exc:
        raise ManifestInvalid(f"The {kind} {key} is damaged: it is not a JSON object.") from exc
    except _NOT_JSON as exc:
        raise _not_whole(kind, key, exc) from exc
    _check_version(content.get(f"{kind}_version"), version, kind, key)
    if digests is None or claimed != digests[1]:
        raise _altered(kind, key)
    return Document(kind, key, digests[0], content, lists)


def _parts(
    content: Mapping[str, Any], apart: Mapping[str, bytes | memoryview]
) -> Iterator[tuple[str, bytes | memoryview]]:
    """Yield the canonical bytes of a document in parts.

    ``content`` has the values of some fields, and ``apart`` has the canonical bytes of the other fields' values. A part that belongs to a
    field in ``apart`` comes with the field's name, and any other part with an empty name.
    """
    names = sorted([*content, *apart])
    yield "", b"{"
    for is_apart, run in groupby(names, key=apart.__contains__):
        if not is_apart:
            fields = {name: content[name] for name in run}
            yield "", canonical_bytes(fields)[1:-1] + (b"," if names[-1] not in fields else b"}\n")
            continue
        for name in run:
            yield name, canonical_bytes(name) + b":"
            yield name, apart[name]
            yield name, b"," if name != names[-1] else b"}\n"


def _digests(
    data: bytes, content: Mapping[str, Any], apart: Mapping[str, bytes | memoryview], checksum: str
) -> tuple[str, str] | None:
    """Return the SHA-256 of a document's bytes, and of the bytes without the field ``checksum``, both in hexadecimal.

    Return None if the bytes aren't the canonical parts of ``content`` and ``apart``: if there is white space or a second field of a name,
    or if the fields aren't in the order of their names. The field ``checksum`` is never the last, since the field for the version follows
    it.
    """
    end, field = 0, (0, 0)
    for name, part in _parts(content, apart):
        if not data.startswith(part, end):
            return None
        start, end = end, end + len(part)
        if name == checksum:
            field = (field[0] or start, end)
    if end != len(data):
        return None
    view = memoryview(data)
    without = hashlib.sha256(view[: field[0]])
    whole = without.copy()  # the bytes before the field are hashed once
    whole.update(view[field[0] :])
    without.update(view[field[1] :])
    return whole.hexdigest(), without.hexdigest()


def _not_whole(kind: str, key: str, error: Exception) -> ManifestInvalid:
    return ManifestInvalid(f"The {kind} {key} is damaged: it is not whole JSON ({brief(error)}).")


def _altered(kind: str, key: str) -> ManifestInvalid:
    return ManifestInvalid(f"The {kind} {key} was altered or damaged: its bytes do not match its {kind}_checksum.")


def _check_version(version: object, newest: str, kind: str, key: str) -> None:
    match = re.match(r"0*([0-9]+)(?:\.|$)", str(version))
    if match is None:
        raise ManifestInvalid(f"The {kind} {key} is damaged: it has no {kind}_version.")
    known = newest.partition(".")[0]
    if (len(match[1]), match[1]) > (len(known), known):
        raise ManifestInvalid(
            f"The {kind} {key} has version {brief(version)}, which is newer than this pgstow knows ({newest}): upgrade pgstow."
        )
