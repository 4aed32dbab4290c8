"""The origin of a backup, in its manifest: the server, and the options of the dump."""

from typing import Literal

from pydantic import Field

from pipeline.catalog.canonical_json import Model
from pipeline.catalog.fields import Count
from pipeline.pg_dump_options import leaves_out

Format = Literal["directory", "custom", "tar", "plain"]
"""The formats of pg_dump."""


class Extension(Model):
    """An extension in the database."""

    name: str
    version: str


class Source(Model):
    """The server, as the dump's snapshot saw it."""

    server_version: str
    system_identifier: str | None = Field(
        description="Identifier of the database cluster; null if the role may not read it"
    )
    pg_dump_version: str
    encoding: str
    collation: str = Field(description="LC_COLLATE")
    character_type: str = Field(description="LC_CTYPE")
    locale_provider: str = Field(description="c (libc), i (ICU) or b (builtin)")
    locale: str | None = Field(description="Locale of the ICU or builtin provider; null for libc")
    icu_rules: str | None = Field(
        default=None, description="ICU_RULES: rules in addition to the ICU locale's; null if there are none"
    )
    tablespace: str | None = Field(default=None, description="The database's tablespace; null for pg_default")
    host: str = Field(description="The host that pgstow connected to: a name, an address, or the folder of a socket")
    port: int = Field(ge=0, le=65535)
    standby: bool = Field(description="True if the server was in recovery")
    wal_lsn: str | None = Field(
        description="Position in the write-ahead log at the snapshot; null if the role may not read it"
    )
    time_zone: str | None = Field(
        default=None, description="Time zone in which the dump writes values of the type timestamp with time zone"
    )
    bytea_output: str | None = Field(default=None, description="Format of bytea in the dump: hex or escape")
    lc_monetary: str | None = Field(
        default=None,
        description="Locale of money in the dump. Null for a script without money, "
        "and for a cluster's script whose databases use several locales",
    )
    quote_all_identifiers: bool | None = Field(
        default=None,
        description="True if names in the rows are always quoted. Values of regclass, regtype and similar types are such names",
    )
    extensions: list[Extension]
    roles: list[str] = Field(
        default=[], description="For a script: the cluster's roles. The script's SQL may name any of them"
    )
    superusers: list[str] = Field(
        default=[],
        description="The superusers among roles. Only a superuser may own an event trigger or a foreign-data wrapper. Since 1.2",
    )
    tablespaces: list[str] = Field(
        default=[], description="For a script: the cluster's tablespaces. The script's SQL may name any of them"
    )


class DumpOptions(Model):
    """The options of pg_dump or pg_dumpall."""

    format: Format | Literal["script"] = Field(
        description="directory, custom, tar or plain: pg_dump's format. script: a script of pg_dumpall"
    )
    jobs: Count
    only: Literal["schema", "data", "roles", "tablespaces"] | None = Field(
        description="The only part that was dumped: definitions or rows of a database, or roles or tablespaces of globals; "
        "null if all parts were dumped"
    )
    tables: list[str] = Field(default=[], description="Patterns of pg_dump --table")
    exclude_tables: list[str] = Field(default=[])
    schemas: list[str] = Field(default=[])
    exclude_schemas: list[str] = Field(default=[])
    exclude_table_data: list[str] = Field(default=[])
    options: list[str] = Field(
        default=[],
        description="Other options of pg_dump or pg_dumpall: --no-comments, --extension=postgis. Since 1.3",
    )
    unlogged_left_out: list[str] = Field(
        default=[],
        description="Unlogged tables and sequences that are empty because the server is a standby: pg_dump left out their rows and values",
    )
    encoding: str | None = Field(default=None, description="For a plain script: the encoding of its text")
    large_objects: bool | None = Field(
        default=None,
        description="For a plain script: true if the script has large objects, and therefore begins and ends transactions itself",
    )
    databases: list[str] = Field(default=[], description="For a cluster's script: the databases in it")
    exclude_databases: list[str] = Field(
        default=[], description="For a cluster: the patterns of databases that were left out"
    )
    role_passwords: bool | None = Field(
        default=None, description="For globals: true if the script has the hashes of the roles' passwords"
    )

    @property
    def choices(self) -> tuple[list[str], ...]:
        """The patterns and options that leave something out, always in the same order."""
        return (
            self.tables,
            self.exclude_tables,
            self.schemas,
            self.exclude_schemas,
            self.exclude_table_data,
            self.exclude_databases,
            list(filter(leaves_out, self.options)),
        )

    @property
    def partial(self) -> bool:
        """True if the dump leaves something out."""
        return self.only is not None or any(self.choices)
