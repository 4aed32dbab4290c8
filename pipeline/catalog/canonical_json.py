"""The format of manifests and attestations: JSON with canonical bytes and a checksum.

Canonical bytes are UTF-8 with sorted keys, no white space, and a newline at the end. The checksum is the SHA-256, in hexadecimal, of the
canonical bytes without the checksum's field.

The functions here work on single values, or on a document's bytes. :mod:`pipeline.catalog.document` reads and writes documents.
"""

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict

_DEEPEST = 32  # levels of nesting: a manifest has five
_STRING = re.compile(rb'"(?>[^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z)', re.DOTALL)
"""A JSON string. A string without an end matches the rest of the text, so that the search doesn't start again at each quote there."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LONGEST_QUOTE = 200  # characters
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Model(BaseModel):
    """A stored document, or a part of one. Fields that this pgstow does not know are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True, serialize_by_alias=True)


def brief(said: object) -> str:
    """Return the first 200 characters of a text from a document, to quote them in an error."""
    words = str(said)
    return words if len(words) <= _LONGEST_QUOTE else f"{words[:_LONGEST_QUOTE]}…"


def document_schema(model: type[Model], title: str, checksum: str) -> dict[str, Any]:
    """Return the JSON Schema of the documents that are stored for the model, with the field ``checksum``."""
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


def canonical_bytes(value: Any) -> bytes:
    """Return the canonical bytes of a JSON value, without the newline at a document's end.

    Raises ValueError for a number that isn't in JSON, or for text that UTF-8 can't encode.
    """
    return _ENCODER.encode(value).encode()


def parse_canonical(data: bytes) -> tuple[Any, bool]:
    """Return the JSON value in ``data``, and True if ``data`` are its canonical bytes.

    Raises ValueError, OverflowError or RecursionError if ``data`` isn't JSON, or if json can't write its value.
    """
    value = json.loads(data)
    return value, canonical_bytes(value) == data


def check_depth(data: bytes) -> None:
    """Raise ValueError if arrays and objects are nested too deeply, or if there are many brackets and they don't match."""
    if data.count(b"[") + data.count(b"{") <= _DEEPEST:
        return
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    for _ in range(_DEEPEST):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise ValueError("its brackets don't match, or are nested too deeply")
