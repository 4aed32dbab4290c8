"""The format of manifests and attestations: JSON with canonical bytes and a checksum.

Canonical bytes are UTF-8 with sorted keys, no white space, and a newline at the end. The checksum is the SHA-256, in hexadecimal, of the
canonical bytes without the checksum's field. Fields that this pgstow does not know are kept.

An attacker who may write to the store can replace a document by any bytes. So :func:`load_document` limits depth and numbers, and raises
the same error for any bytes that aren't valid.
"""

import hashlib
import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import ManifestInvalid

_DEEPEST = 32  # levels of nesting: a manifest has five
_STRING = re.compile(rb'"(?>[^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z)', re.DOTALL)
"""A JSON string. A string without an end matches the rest of the text, so that the search doesn't start again at each quote there."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LONGEST_QUOTE = 200  # characters


class Model(BaseModel):
    """A stored document, or a part of one. Fields that this pgstow does not know are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True, serialize_by_alias=True)


_M = TypeVar("_M", bound=Model)


def dump_document(document: Model, checksum: str) -> bytes:
    """Return a document's canonical bytes.

    ``checksum`` names the field for the SHA-256, in hexadecimal, of the canonical bytes of all other fields.
    """
    content = document.model_dump(mode="json")
    content.pop(checksum, None)
    content[checksum] = hashlib.sha256(canonical_bytes(content)).hexdigest()
    return canonical_bytes(content)


def load_document(data: bytes, model: type[_M], key: str, *, version: str) -> _M:
    """Return the document in the bytes that :func:`dump_document` wrote. ``version`` is the version that this pgstow writes.

    The fields for the version and the checksum are named after the model: ``manifest_version``, ``manifest_checksum``.

    Raises ManifestInvalid, with ``key`` in its text, for any other bytes. Examples are altered white space, nesting that is too deep,
    numbers or times out of bounds, and a newer major version.
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
    """Return the first 200 characters of a text from a document, to quote them in an error."""
    words = str(said)
    return words if len(words) <= _LONGEST_QUOTE else f"{words[:_LONGEST_QUOTE]}…"


def document_schema(model: type[Model], title: str, checksum: str) -> dict[str, Any]:
    """Return the JSON Schema of the documents that :func:`dump_document` writes for the model, with the field ``checksum``."""
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
    """Return the content's canonical bytes. Raises ValueError for NaN or infinity, or for text that UTF-8 can't encode."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def _check_depth(data: bytes) -> None:
    """Raise ValueError if brackets don't match, or if arrays and objects are nested too deeply for json.dumps."""
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
