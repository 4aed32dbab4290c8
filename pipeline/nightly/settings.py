"""The model of pgstow.toml: every key, and its possible values. docs/configuration.md explains them."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from pipeline.catalog.attestation import Level
from pipeline.catalog.manifest import Format
from pipeline.config import (
    LONGEST_PATIENCE,
    LONGEST_TIMEOUT,
    MOST_AT_ONCE,
    MOST_RETRIES,
    parse_duration,
    parse_size,
)
from pipeline.errors import InvalidRequest
from pipeline.nightly.references import REFERENCE, Secret, is_reference, read_secret, resolve, text_or_reference
from pipeline.postgres.conninfo import Conninfo
from pipeline.prune.policy import Policy
from storage_backends import InvalidStorageURL, place_of
from storage_backends.urls import split_web_url


def _conninfo(value: Any, info: ValidationInfo) -> str:
    text, referred = resolve(value, info)
    try:
        secrets = Conninfo.parse(text).secrets
    except InvalidRequest as exc:
        raise ValueError(str(exc)) from None
    if secrets and not referred:
        raise ValueError(
            f"{secrets[0]} may not stand in this file: keep it in libpq's password file (~/.pgpass) or service file, "
            'name a file that has it by password_file, or take the whole from the environment by {env = "NAME"}'
        )
    return str(text)


def _url(value: Any, info: ValidationInfo) -> str:
    text, _ = resolve(value, info)
    try:
        place_of(text)
    except InvalidStorageURL as exc:
        raise ValueError(str(exc)) from None
    return str(text)


def _ping(value: Any, info: ValidationInfo) -> str:
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


def _textfile(path: str) -> str:
    if not path.endswith(".prom"):
        raise ValueError("must end in .prom: node_exporter reads no other file")
    return path


def _command(words: list[str]) -> list[str]:
    if not words[0]:
        raise ValueError("names no program")
    return words


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _duration(value: Any) -> timedelta:
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
Patterns = list[str]
Command = Annotated[list[str], Field(min_length=1), AfterValidator(_command)]
Recipient = Annotated[Secret, PlainValidator(read_secret), WithJsonSchema(REFERENCE)]


class Settings(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Options(Settings):
    """How to back up: what [defaults] may say for every database, and each database for itself."""

    cluster: str | None = Field(default=None, description="The name to file backups under; the server's host if absent")
    destinations: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="Names of [destinations]; all of them if absent"
    )
    verify: Literal["objects", "bytes", "archive", "restore", "none"] | None = Field(
        default=None, description="How far to verify each backup once it is made"
    )
    retention: str | None = Field(
        default=None, description="A name of [retention]; if absent, the name default, if it exists"
    )
    format: Format | None = Field(default=None, description="pg_dump's format; directory if absent")
    jobs: Count | None = Field(default=None, description="Parallel jobs of pg_dump")
    level: Annotated[int, Field(ge=1, le=19)] | None = Field(default=None, description="zstd's compression level")
    transfers: Count | None = Field(default=None, description="Objects on their way to each store at once")
    memory: Size | None = Field(default=None, description="Memory for data in flight, such as 192MiB")
    spool_limit: Size | None = Field(default=None, description="Local disk for the spool")
    object_size: Size | None = Field(default=None, description="The largest object to write")
    spool_dir: str | None = Field(default=None, description="Where to spool; the system's temporary folder if absent")
    lock_wait_timeout: Seconds | None = Field(
        default=None, description="Seconds that pg_dump may wait for somebody else's lock; 0: for ever"
    )
    statement_timeout: Seconds | None = Field(
        default=None, description="Seconds that a statement of pg_dump may run; 0: for ever"
    )
    tags: list[str] | None = Field(default=None, description="Names for keep_tagged")
    retries: Annotated[int, Field(ge=0, le=MOST_RETRIES)] | None = Field(
        default=None, description="How often to begin again after a failure that may pass"
    )
    pg_dump_options: list[str] | None = Field(
        default=None, description='Further options of pg_dump, such as "--no-comments" and "--extension=postgis"'
    )
    bin_dir: list[str] | None = Field(default=None, description="Where PostgreSQL's programs are")
    before: Command | None = Field(default=None, description="A command that may refuse the backup, by its exit code")


class DatabaseSettings(Options):
    """A database, or a whole server, to back up."""

    conninfo: Annotated[
        str, BeforeValidator(_conninfo), text_or_reference("libpq's connection string, without a password")
    ]
    password_file: str | None = Field(default=None, description="A file that has the password, and nothing else")
    all_databases: bool = Field(default=False, description="Roles, tablespaces and every database of the server")
    exclude_databases: Patterns = Field(
        default=[], description="With all_databases, patterns of databases to leave out"
    )
    role_passwords: bool = Field(default=True, description="With all_databases, back up the hashes of roles' passwords")
    databases_at_once: Count = Field(default=1, description="With all_databases, dump so many at once")
    tables: Patterns = Field(default=[], description="pg_dump's patterns of the tables to take")
    exclude_tables: Patterns = Field(default=[], description="Patterns of tables to leave out")
    schemas: Patterns = Field(default=[], description="Patterns of the schemas to take, with all their objects")
    exclude_schemas: Patterns = Field(default=[], description="Patterns of schemas to leave out")
    exclude_table_data: Patterns = Field(default=[], description="Patterns of tables to take without their rows")
    only: Literal["schema", "data"] | None = Field(
        default=None, description="Only definitions (schema), or only rows (data)"
    )


class DestinationSettings(Settings):
    """A store."""

    url: Annotated[str, BeforeValidator(_url), text_or_reference("s3://bucket/prefix, gs://bucket/prefix or a folder")]
    give_up_after: Annotated[float, Field(gt=0, le=LONGEST_PATIENCE)] = Field(
        default=300.0, description="Seconds to retry each request that fails"
    )
    limit_rate: Size | None = Field(default=None, description="Bytes a second to or from the store")


class Retention(Settings):
    """Which backups to keep; all that no rule keeps may go."""

    keep_last: Number = Field(default=0, description="So many of the newest backups")
    keep_hourly: Number = Field(default=0, description="The newest of each of the last so many hours")
    keep_daily: Number = Field(default=0, description="The newest of each of the last so many days")
    keep_weekly: Number = Field(default=0, description="The newest of each of the last so many weeks")
    keep_monthly: Number = Field(default=0, description="The newest of each of the last so many months")
    keep_yearly: Number = Field(default=0, description="The newest of each of the last so many years")
    keep_within: Annotated[
        timedelta,
        BeforeValidator(_duration),
        WithJsonSchema(
            {
                "type": "string",
                "pattern": "^[0-9]{1,6}[hdw]$",
                "description": "Backups up to so much older than the newest, such as 30d",
            }
        ),
    ] = timedelta()
    keep_tagged: list[str] = Field(default=[], description="Backups with one of these tags")
    only_verified: Literal["objects", "bytes", "archive", "restore"] | None = Field(
        default=None, description="Count a backup only if it is verified so far"
    )

    @model_validator(mode="after")
    def _has_rule(self) -> Self:
        if self.policy().is_empty:
            raise ValueError("says nothing to keep, such as keep_daily = 7")
        return self

    def policy(self) -> Policy:
        """Return the rules as a policy for :mod:`pipeline.prune.prune`."""
        level = None if self.only_verified is None else Level(self.only_verified)
        rules = {
            name: getattr(self, name) for name in Retention.model_fields if name not in ("keep_tagged", "only_verified")
        }
        return Policy(**rules, keep_tagged=frozenset(self.keep_tagged), only_verified=level)


class Monitoring(Settings):
    """Who is told."""

    textfile: Annotated[str, AfterValidator(_textfile)] | None = Field(
        default=None, description="A file for node_exporter's textfile collector: *.prom"
    )
    on_success: Command | None = Field(
        default=None, description="A command to run after success; its input is the outcome"
    )
    on_failure: Command | None = Field(
        default=None, description="A command to run after a failure; its input is the outcome"
    )
    notify: list[Recipient] = Field(
        default=[], description="Apprise URLs; each gets a message when a run fails, and when all is good again"
    )
    hook_timeout: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=60, description="Seconds that a command or a message may take"
    )
    ping: Annotated[str, BeforeValidator(_ping), WithJsonSchema(REFERENCE)] | None = Field(
        default=None, description="A dead man's switch, as healthchecks.io has it"
    )


class Config(Settings):
    """pgstow.toml."""

    defaults: Options = Options()
    destinations: Annotated[dict[str, DestinationSettings], Field(min_length=1)]
    databases: Annotated[dict[str, DatabaseSettings], Field(min_length=1)]
    retention: dict[str, Retention] = {}
    monitoring: Monitoring = Monitoring()


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file, for editors, as published in docs/config.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "pgstow.toml",
    }
