"""The model of pgstow.toml: every key, and its possible values. docs/configuration.md explains them."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from pipeline.catalog.origin import Format
from pipeline.config import LONGEST_PATIENCE, MOST_RETRIES
from pipeline.nightly.fields import (
    Command,
    CompressionLevel,
    Count,
    Patterns,
    Recipient,
    Seconds,
    Size,
    SplitTables,
    check_textfile,
    read_conninfo,
    read_ping,
    read_url,
)
from pipeline.nightly.references import REFERENCE, text_or_reference
from pipeline.nightly.retention import Retention
from pipeline.nightly.signatures import Signing, Trust
from pipeline.toml_file import Settings


class Options(Settings):
    """How to back up. [defaults] may set these keys for all databases, and each database may set them for itself."""

    cluster: str | None = Field(
        default=None,
        description="The name under which the store keeps the backups of this server; default: the server's host",
    )
    destinations: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="The names of the [destinations.NAME] tables to which the backup goes; default: all of them",
    )
    verify: Literal["objects", "bytes", "archive", "restore", "none"] | None = Field(
        default=None,
        description="The level at which pgstow verifies each new backup, at each destination; default: none",
    )
    scratch: Annotated[
        str | None,
        BeforeValidator(read_conninfo),
        text_or_reference(
            'With verify = "restore", the server for the test restore, as a connection string without a password; '
            "default: a server that pgstow starts"
        ),
    ] = None
    checksums: bool | None = Field(
        default=None,
        description='With verify = "restore", compare the content of each restored table with the archive; default: false',
    )
    assertions: list[str] | None = Field(
        default=None,
        description='With verify = "restore", SQL statements that must return one row with the single value true; default: none',
    )
    server_settings: bool | None = Field(
        default=None,
        description='With verify = "restore", keep the server\'s own settings during the test restore; default: false',
    )
    retention: str | None = Field(
        default=None,
        description="The name of the [retention.NAME] table that says which backups to keep; default: [retention.default], if the file has it",
    )
    format: Format | None = Field(default=None, description="pg_dump's format; default: directory")
    jobs: Count | None = Field(
        default=None,
        description="Parallel jobs of pg_dump; only the format directory allows more than one; default: the number of processors, four at most",
    )
    split_tables: SplitTables | None = Field(
        default=None,
        description="The tables that several jobs dump together, or load together in a proof: auto, never, or a size; default: auto",
    )
    level: CompressionLevel | None = Field(
        default=None,
        description="zstd's compression level; auto takes level 3, and higher levels while a backup waits for uploads; default: auto",
    )
    transfers: Count | None = Field(
        default=None, description="How many objects to transfer at the same time, for each store; default: 4"
    )
    memory: Size | None = Field(
        default=None,
        description="The most memory for data on its way between the database and the stores; default: 128MiB",
    )
    spool_limit: Size | None = Field(
        default=None,
        description="The most local disk for the spool, the folder in which pg_dump leaves files for pgstow; default: 256MiB",
    )
    object_size: Size | None = Field(
        default=None, description="The largest size that an object of a backup may have; default: 32MiB"
    )
    spool_dir: str | None = Field(
        default=None, description="The folder in which pgstow makes the spool; default: the system's temporary folder"
    )
    lock_wait_timeout: Seconds | None = Field(
        default=None,
        description="Seconds that pg_dump may wait for a lock that another session holds; 0 for no limit; default: 300",
    )
    statement_timeout: Seconds | None = Field(
        default=None, description="Seconds that a statement of pg_dump may run; 0 for no limit; default: 0"
    )
    tags: list[str] | None = Field(
        default=None,
        description="Tags for each new backup; keep_tagged in a [retention.NAME] table keeps backups by their tags; default: none",
    )
    retries: Annotated[int, Field(ge=0, le=MOST_RETRIES)] | None = Field(
        default=None, description="How many times to start the backup again after a temporary failure; default: 0"
    )
    pg_dump_options: list[str] | None = Field(
        default=None,
        description='Further options of pg_dump, such as ["--no-comments", "--extension=postgis"]; default: none',
    )
    bin_dir: list[str] | None = Field(
        default=None, description="Folders with PostgreSQL's programs; default: the usual places"
    )
    before: Command | None = Field(
        default=None,
        description="A command that can refuse the backup by its exit code: a list of the program and its arguments; default: none",
    )


class DatabaseSettings(Options):
    """A database, or a whole server, to back up."""

    conninfo: Annotated[
        str,
        BeforeValidator(read_conninfo),
        text_or_reference("libpq's connection string, in any form that pg_dump accepts, without a password"),
    ]
    password_file: str | None = Field(
        default=None,
        description="A file that holds only the password, with or without a line break at its end; default: libpq's own places",
    )
    all_databases: bool = Field(
        default=False, description="Back up the whole server: roles, tablespaces and every database"
    )
    exclude_databases: Patterns = Field(
        default=[],
        description="With all_databases, patterns of the databases to leave out, as for pg_dumpall --exclude-database; default: none",
    )
    role_passwords: bool = Field(
        default=True,
        description="With all_databases, back up the hashes of roles' passwords, if the role that backs up may read them",
    )
    databases_at_once: Count = Field(
        default=1, description="With all_databases, how many databases to dump at the same time"
    )
    tables: Patterns = Field(
        default=[], description="Patterns of the tables to back up, as for pg_dump --table; default: all tables"
    )
    exclude_tables: Patterns = Field(
        default=[], description="Patterns of the tables to leave out, as for pg_dump --exclude-table; default: none"
    )
    schemas: Patterns = Field(
        default=[],
        description="Patterns of the schemas to back up with all their objects, as for pg_dump --schema; default: all schemas",
    )
    exclude_schemas: Patterns = Field(
        default=[], description="Patterns of the schemas to leave out, as for pg_dump --exclude-schema; default: none"
    )
    exclude_table_data: Patterns = Field(
        default=[],
        description="Patterns of the tables to back up without their rows, as for pg_dump --exclude-table-data; default: none",
    )
    only: Literal["schema", "data"] | None = Field(
        default=None, description="Back up only the definitions (schema), or only the rows (data); default: both"
    )


class DestinationSettings(Settings):
    """A store."""

    url: Annotated[
        str,
        BeforeValidator(read_url),
        text_or_reference(
            "s3://bucket/prefix, gs://bucket/prefix or a folder; options of the store follow it, such as ?region=eu-central-1&retain_days=30"
        ),
    ]
    give_up_after: Annotated[float, Field(gt=0, le=LONGEST_PATIENCE)] = Field(
        default=300.0,
        description="Seconds for which pgstow repeats a failing request, counted from the request's first failure",
    )
    limit_rate: Size | None = Field(
        default=None, description="The most bytes a second to or from the store; default: no limit"
    )


class EncryptionSettings(Settings):
    """The recipients to whom pgstow seals every backup of the file."""

    recipients: list[str] = Field(
        default=[],
        description="Recipients: public keys of age (age1…) or ssh (ssh-ed25519, ssh-rsa), to which pgstow seals the backups; "
        "default: none",
    )
    recipients_file: str | None = Field(
        default=None, description="A file with recipients, one on each line; default: none"
    )


class Monitoring(Settings):
    """Who is told."""

    textfile: Annotated[str, AfterValidator(check_textfile)] | None = Field(
        default=None, description="A file for node_exporter's textfile collector; its name ends in .prom; default: none"
    )
    on_success: Command | None = Field(
        default=None,
        description="A command that pgstow runs after a run that succeeded: a list of the program and its arguments; default: none",
    )
    on_failure: Command | None = Field(
        default=None,
        description="A command that pgstow runs after a run that failed: a list of the program and its arguments; default: none",
    )
    notify: list[Recipient] = Field(
        default=[],
        description="Where to send a message when a run fails, and after the next good run: URLs of the library Apprise; default: none",
    )
    hook_timeout: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=60,
        description="Seconds that one message may take, or one command of this file (`before`, on_success or on_failure)",
    )
    ping: Annotated[str, BeforeValidator(read_ping), WithJsonSchema(REFERENCE)] | None = Field(
        default=None, description="The URL of a dead man's switch, such as healthchecks.io; default: none"
    )


class Config(Settings):
    """pgstow.toml."""

    defaults: Options = Options()
    destinations: Annotated[dict[str, DestinationSettings], Field(min_length=1)]
    databases: Annotated[dict[str, DatabaseSettings], Field(min_length=1)]
    encryption: EncryptionSettings = EncryptionSettings()
    retention: dict[str, Retention] = Field(default={})
    signing: Signing | None = None
    trust: Trust = Trust()
    monitoring: Monitoring = Monitoring()

    @model_validator(mode="after")
    def _signs_what_it_removes(self) -> Self:
        if self.signing and self.retention and not self.trust.keys:
            raise ValueError(
                "[signing] with [retention.NAME] needs keys in [trust], so that retention can sign the removal of signed backups"
            )
        return self


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file, for editors, as published in docs/config.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "pgstow.toml",
    }
