"""The values that pgstow.toml may have, as pydantic checks and reads them."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from pipeline import config
from pipeline.config import LEVELS, LONGEST_TIMEOUT, MOST_AT_ONCE, Level, parse_duration, parse_size, parse_split_tables
from pipeline.errors import InvalidRequest
from pipeline.nightly.references import REFERENCE, Secret, is_reference, read_secret, resolve
from pipeline.postgres.conninfo import Conninfo
from storage_backends import InvalidStorageURL, place_of
from storage_backends.urls import split_web_url


def read_conninfo(value: Any, info: ValidationInfo) -> str:
    """Return the connection string. Raises ValueError if it isn't valid, or if the file itself holds a secret."""
    text, referred = resolve(value, info)
    try:
        secrets = Conninfo.parse(text).secrets
    except InvalidRequest as exc:
        raise ValueError(str(exc)) from None
    if secrets and not referred:
        places = "libpq's password file (~/.pgpass) or service file"
        places += ", or in a file that password_file names" if info.field_name == "conninfo" else ""
        raise ValueError(
            f"{secrets[0]} may not stand in this file: keep it in {places}; "
            'or take the whole connection string from the environment by {env = "NAME"}'
        )
    return str(text)


def read_url(value: Any, info: ValidationInfo) -> str:
    """Return the URL of a store. Raises ValueError if it names none."""
    text, _ = resolve(value, info)
    try:
        place_of(text)
    except InvalidStorageURL as exc:
        raise ValueError(str(exc)) from None
    return str(text)


def read_ping(value: Any, info: ValidationInfo) -> str:
    """Return the URL, or an empty text if the environment lacks the variable: monitoring must not prevent a backup. Raises ValueError."""
    if is_reference(value) and not (info.context or {}).get(value["env"]):
        return ""
    text, referred = resolve(value, info)
    try:
        parts = split_web_url(text)
    except ValueError:
        raise ValueError("must be like https://host/path") from None
    if parts.scheme not in ("http", "https") or not re.fullmatch("[!-~]+", text):
        raise ValueError("must be like https://host/path")
    if "@" in parts.netloc:
        raise ValueError("can't have a user or a password: let its path be the secret")
    if not referred:
        raise ValueError(
            'is a secret, so it may not stand in this file: write {env = "NAME"} to take it from the environment'
        )
    return str(text)


def check_textfile(path: str) -> str:
    """Return the path. Raises ValueError unless node_exporter would read the file."""
    if not path.endswith(".prom"):
        raise ValueError("must end in .prom: node_exporter reads no other file")
    return path


def _command(words: list[str]) -> list[str]:
    if not words[0]:
        raise ValueError("names no program")
    return words


def _level(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value in LEVELS):
        return value
    raise ValueError(f"must be auto, or a whole number from {LEVELS[0]} to {LEVELS[-1]}")


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _split_tables(value: Any) -> Any:
    if isinstance(value, str) or type(value) is int:
        return parse_split_tables(str(value))
    raise ValueError("must be auto, never or a size such as 1GiB")


def read_duration(value: Any) -> timedelta:
    """Return the duration. Raises InvalidRequest if the text isn't one."""
    return parse_duration(str(value))


Count = Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]
Number = Annotated[int, Field(ge=0)]
Seconds = Annotated[int, Field(ge=0, le=LONGEST_TIMEOUT)]
Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=1, lt=2**63),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
CompressionLevel = Annotated[
    Level,
    PlainValidator(_level),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": LEVELS[0], "maximum": LEVELS[-1]},
                {"type": "string", "const": "auto"},
            ]
        }
    ),
]
SplitTables = Annotated[
    config.SplitTables,
    PlainValidator(_split_tables),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string"},
                {"type": "string", "const": "auto"},
                {"type": "string", "const": "never"},
            ]
        }
    ),
]
Patterns = list[str]
Command = Annotated[list[str], Field(min_length=1), AfterValidator(_command)]
Recipient = Annotated[Secret, PlainValidator(read_secret), WithJsonSchema(REFERENCE)]
