"""Writes a new pgstow.toml. Its comments come from the model of the file, so they describe the keys of this version."""

import json
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.errors import InvalidRequest
from pipeline.nightly.references import REFERENCE
from pipeline.nightly.retention import Retention
from pipeline.nightly.settings import (
    DatabaseSettings,
    DestinationSettings,
    EncryptionSettings,
    Monitoring,
    Options,
)

USUAL_RETENTION = {"keep_daily": 14, "keep_monthly": 12}
USUAL_VERIFICATION = "archive"

_WIDTH = 110
_HEADER = """\
# pgstow config init wrote this file. pgstow run does the backups that it describes.
# Don't write passwords or keys into this file. Keep them in libpq's password file, in a file that password_file names, or in the
# environment: { env = "NAME" } takes a value from the environment.
# Lines such as "#   key: …" describe the other keys that a table may have.
"""


@dataclass(frozen=True, slots=True)
class Choices:
    """The content of a new file."""

    name: str
    """The name of the database in the file."""
    conninfo: str
    """libpq's connection string, without a password."""
    urls: Mapping[str, str]
    """The stores' URLs, by the destinations' names."""
    all_databases: bool = False
    password_file: Path | None = None
    cluster: str | None = None
    verify: str | None = None
    keep: Mapping[str, int] = field(default_factory=dict)
    """The rules of the retention; empty for no rules."""


def compose(choices: Choices) -> str:
    """Return the text of the file."""
    database = {
        "conninfo": choices.conninfo,
        "password_file": None if choices.password_file is None else str(choices.password_file),
        "all_databases": choices.all_databases or None,
    }
    tables = [
        _table("defaults", Options, {"cluster": choices.cluster, "verify": choices.verify}),
        *(
            _table(f"destinations.{_key(name)}", DestinationSettings, {"url": url})
            for name, url in choices.urls.items()
        ),
        [
            *_table(f"databases.{_key(choices.name)}", DatabaseSettings, database, without=Options),
            "# A database may also have any key of [defaults]. The database's value then replaces the default.",
        ],
        _table("encryption", EncryptionSettings, {}),
        _retention(choices.keep),
        _table("monitoring", Monitoring, {}),
    ]
    return "\n".join([_HEADER, *("\n".join([*table, ""]) for table in tables)])


def create(path: Path, text: str) -> None:
    """Write a file that only its owner may read.

    Raises InvalidRequest if the file exists or can't be made. If it can't be written, removes it and raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as exc:
        raise InvalidRequest(f"Cannot make {path}: {exc.strerror}.") from exc
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise


def _retention(keep: Mapping[str, int]) -> list[str]:
    if keep:
        return [
            "# After each run, pgstow removes the backups that no rule keeps.",
            *_table("retention.default", Retention, keep),
        ]
    table = _table("retention.default", Retention, USUAL_RETENTION)
    return [
        "# Without rules, pgstow run removes no backups. With these rules, it would remove the backups that no rule keeps.",
        "# For this, the credentials must be able to delete:",
        *(line if line.startswith("#") else f"#{line}" for line in table),
    ]


def _table(
    heading: str, model: type[BaseModel], values: Mapping[str, Any], without: type[BaseModel] = BaseModel
) -> list[str]:
    """Return the lines of a table.

    First come ``values`` except None, each below a comment that explains it. Then come the other keys, except the keys of ``without``.
    """
    given = {key: value for key, value in values.items() if value is not None}
    schema = model.model_json_schema()["properties"]
    means = {
        key: _meaning(schema[key], setting.default)
        for key, setting in model.model_fields.items()
        if key in given or key not in without.model_fields
    }
    lines = [f"[{heading}]"]
    for key, value in given.items():
        lines += [*_comment("# ", means[key]), f"{key} = {_value(value)}"]
    for key in means:
        if key not in given:
            lines += _comment("#   ", f"{key}: {means[key]}")
    return lines


def _meaning(schema: Mapping[str, Any], default: object) -> str:
    """Return what the model says of a key: its description, the possible values, and the default."""
    parts = list(_parts(schema))
    description: str = next(part["description"] for part in parts if "description" in part)
    words, _, usual = description.partition("; default: ")
    if possible := next((part["enum"] for part in parts if "enum" in part), None):
        words += f"; one of {', '.join(possible)}"
    if REFERENCE in parts:
        words += '; { env = "NAME" } takes it from the environment'
    if default and isinstance(default, int | float):
        usual = _value(default)
    return f"{words}; default: {usual}" if usual else words


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schema, and the schemas of its alternatives and of a list's items."""
    yield schema
    for part in [*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]:
        yield from _parts(part)


def _comment(mark: str, words: str) -> list[str]:
    return textwrap.wrap(words, _WIDTH, initial_indent=mark, subsequent_indent="#   " + mark[1:])


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: object) -> str:
    """Return a text, a number or a truth value in TOML. JSON writes them in the same way, except that TOML escapes DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
