"""Documents that pgstow stores beside backups: JSON with canonical bytes and a checksum of its own.

Canonical is UTF-8, keys sorted, no white space, a newline at the end. The checksum is the SHA-256, in hexadecimal, of the same bytes with the
field that holds it left out. Fields that this pgstow does not know are kept.

Whoever may write to the store may write any bytes in a document's place. So :func:`load_document` bounds all that it takes, and has one error.
"""

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from pipeline.errors import ManifestInvalid

MOST = 2**63 - 1
"""The largest number in a document, as in PostgreSQL's bigint."""
_DEEPEST = 32  # levels of nesting: a manifest has five
_STRING = re.compile(rb'"(?>[^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z)', re.DOTALL)
"""A string without an end takes all the rest. Otherwise each of its quotes would be looked at as a beginning."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_EARLIEST = 1970
_LONGEST_QUOTE = 200  # characters


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("a time in UTC is in the years up to 9999") from exc
    if moment.year < _EARLIEST:
        raise ValueError(f"no time is before {_EARLIEST}")
    return moment


Count = Annotated[int, Field(ge=0, le=MOST)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256, in hexadecimal")]
Moment = Annotated[
    datetime,
    AfterValidator(_in_utc),
    PlainSerializer(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z", return_type=str),
    Field(description="RFC 3339, in UTC"),
]


class Model(BaseModel):
    """A part of a document that is stored, or the whole of one. Fields that this pgstow does not know are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


_M = TypeVar("_M", bound=Model)


def dump_document(document: Model, checksum: str) -> bytes:
    """A document's canonical bytes, with the checksum of the rest under that name."""
    content = document.model_dump(mode="json")
    content.pop(checksum, None)
    content[checksum] = hashlib.sha256(canonical_bytes(content)).hexdigest()
    return canonical_bytes(content)


def load_document(data: bytes, model: type[_M], key: str, *, version: str) -> _M:
    """Parse and check a document of the model that :func:`dump_document` wrote. ``version`` is the newest that this pgstow writes.

    The fields for the version and the checksum are named after the model: ``manifest_version``, ``manifest_checksum``.

    Raises ManifestInvalid, naming ``key``, for any other bytes. Examples are altered white space, nesting that is too deep, numbers or
    times out of bounds, and a newer major version.
    """
    kind = model.__name__.lower()
    try:
        _check_depth(data)
        content = json.loads(data)
        canonical = canonical_bytes(content)
    except (ValueError, OverflowError, RecursionError) as exc:
        raise ManifestInvalid(f"The {kind} {key} is damaged: it is not whole JSON ({brief(exc)}).") from exc
    if not isinstance(content, dict):
        raise ManifestInvalid(f"The {kind} {key} is damaged: it is not a JSON object.")
    _check_version(content.get(f"{kind}_version"), version, kind, key)
    claimed = content.pop(f"{kind}_checksum", None)
    if canonical != data or claimed != hashlib.sha256(canonical_bytes(content)).hexdigest():
        raise ManifestInvalid(f"The {kind} {key} was altered or damaged: its bytes do not match its {kind}_checksum.")
    try:
        return model.model_validate(content)
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        where = brief(".".join(str(part) for part in first["loc"])) or "as a whole"
        raise ManifestInvalid(f"The {kind} {key} is not valid: {where}: {brief(first['msg'])}.") from exc
    except (ValueError, OverflowError, RecursionError) as exc:
        raise ManifestInvalid(f"The {kind} {key} is not valid: {brief(exc)}.") from exc


def brief(said: object) -> str:
    """Return the beginning of a document's words, to quote in an error."""
    words = str(said)
    return words if len(words) <= _LONGEST_QUOTE else f"{words[:_LONGEST_QUOTE]}…"


def document_schema(model: type[Model], title: str, checksum: str) -> dict[str, Any]:
    """The JSON Schema of what :func:`dump_document` writes."""
    schema = model.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = title
    schema["properties"][checksum] = {
        "description": f"SHA-256, in hexadecimal, of this {model.__name__.lower()}'s canonical bytes without this field",
        "pattern": "^[0-9a-f]{64}$",
        "type": "string",
    }
    schema["required"] = sorted({*schema["required"], checksum})
    return schema


def canonical_bytes(content: dict[str, Any]) -> bytes:
    """The only way to write this content. Raises ValueError for what JSON doesn't know."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def _check_depth(data: bytes) -> None:
    """Raise ValueError if brackets don't match, or if arrays and objects are nested too deeply to be printed again."""
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    for _ in range(_DEEPEST):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise ValueError("its brackets don't match, or are nested too deeply")


def _check_version(version: object, newest: str, kind: str, key: str) -> None:
    match = re.match(r"0*([0-9]+)(?:\.|$)", str(version))
    if match is None:
        raise ManifestInvalid(f"The {kind} {key} is damaged: it has no {kind}_version.")
    known = newest.partition(".")[0]
    if (len(match[1]), match[1]) > (len(known), known):
        raise ManifestInvalid(
            f"The {kind} {key} has version {brief(version)}, which is newer than this pgstow knows ({newest}): upgrade pgstow."
        )
