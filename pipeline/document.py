"""Documents that pgstow stores beside backups: JSON with canonical bytes and a checksum of its own.

Canonical is UTF-8, keys sorted, no white space, a newline at the end. The checksum is the SHA-256, in hexadecimal, of the same bytes with the
field that holds it left out. Fields that this pgstow does not know are kept.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone")
    return moment.astimezone(UTC)


Count = Annotated[int, Field(ge=0)]
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


def dump_document(document: Model, checksum: str) -> bytes:
    """A document's canonical bytes, with the checksum of the rest under that name."""
    content = document.model_dump(mode="json")
    content.pop(checksum, None)
    content[checksum] = hashlib.sha256(canonical_bytes(content)).hexdigest()
    return canonical_bytes(content)


def load_document(data: bytes, checksum: str) -> dict[str, Any]:
    """Return the content without its checksum. Raises ValueError if ``data`` isn't as :func:`dump_document` wrote it, down to white space."""
    content = json.loads(data)
    if not isinstance(content, dict) or canonical_bytes(content) != data:
        raise ValueError("the bytes are not canonical")
    if content.pop(checksum, None) != hashlib.sha256(canonical_bytes(content)).hexdigest():
        raise ValueError("the checksum is another")
    return content


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
