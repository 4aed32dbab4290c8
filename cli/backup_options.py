"""The options of ``pgstow backup``: some of pg_dump's, with the same names and meanings, and a few of pgstow's own."""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from cli.options import LIMITS, SERVER, WHAT
from cli.values import parse_format, parse_level, parse_size, parse_split_tables
from pipeline import config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.pg_dump_options import GivenOption
    from pipeline.selection import Selection

SPOOL_DEFAULT = "256MiB"
OBJECT_DEFAULT = "32MiB"
PATIENCE = "Timeouts and retries"

Source: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="CONNINFO",
        help="The database: its name, a URI, or 'host=… dbname=…'. libpq's environment, such as PGHOST, fills in the rest",
    ),
]
FiledUnder: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="CLUSTER",
        help="The name under which the store keeps the backups of this server. Default: the server's host",
    ),
]
Tables: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        "-t",
        metavar="PATTERN",
        help="Only tables, views, sequences and the like that match; can be repeated",
        rich_help_panel=WHAT,
    ),
]
ExcludedTables: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-table",
        "-T",
        metavar="PATTERN",
        help="Leave out tables that match; can be repeated",
        rich_help_panel=WHAT,
    ),
]
Schemas: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--schema",
        "-n",
        metavar="PATTERN",
        help="Only schemas that match, with all their objects; can be repeated",
        rich_help_panel=WHAT,
    ),
]
ExcludedSchemas: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-schema",
        "-N",
        metavar="PATTERN",
        help="Leave out schemas that match; can be repeated",
        rich_help_panel=WHAT,
    ),
]
ExcludedTableData: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-table-data",
        metavar="PATTERN",
        help="Leave out the rows of tables that match, but keep their definitions; can be repeated",
        rich_help_panel=WHAT,
    ),
]
DumpFormat: TypeAlias = Annotated[
    str,
    typer.Option(
        "--format",
        "-F",
        metavar="FORMAT",
        parser=parse_format,
        help="pg_dump's format: directory, custom, tar or plain. With --all-databases, plain is the script of pg_dumpall",
        rich_help_panel=WHAT,
    ),
]
SchemaOnly: TypeAlias = Annotated[
    bool, typer.Option("--schema-only", "-s", help="Only definitions, no rows", rich_help_panel=WHAT)
]
DataOnly: TypeAlias = Annotated[
    bool, typer.Option("--data-only", "-a", help="Only rows, no definitions", rich_help_panel=WHAT)
]
AllDatabases: TypeAlias = Annotated[
    bool,
    typer.Option("--all-databases", "-A", help="Back up roles, tablespaces and every database", rich_help_panel=SERVER),
]
ExcludedDatabases: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-database",
        metavar="PATTERN",
        help="With --all-databases: leave out databases that match; can be repeated",
        rich_help_panel=SERVER,
    ),
]
DatabasesAtOnce: TypeAlias = Annotated[
    int,
    typer.Option(
        "--databases-at-once",
        metavar="N",
        min=1,
        max=config.MOST_AT_ONCE,
        help="With --all-databases: the number of databases to dump at once",
        rich_help_panel=SERVER,
    ),
]
GlobalsOnly: TypeAlias = Annotated[
    bool, typer.Option("--globals-only", "-g", help="Back up only roles and tablespaces", rich_help_panel=SERVER)
]
RolesOnly: TypeAlias = Annotated[bool, typer.Option("--roles-only", help="Back up only roles", rich_help_panel=SERVER)]
TablespacesOnly: TypeAlias = Annotated[
    bool, typer.Option("--tablespaces-only", help="Back up only tablespaces", rich_help_panel=SERVER)
]
NoRolePasswords: TypeAlias = Annotated[
    bool, typer.Option("--no-role-passwords", help="Leave out the passwords of roles", rich_help_panel=SERVER)
]
LockWaitTimeout: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=config.LONGEST_TIMEOUT,
        help="The longest wait of pg_dump for a lock on a table; 0 means no limit",
        rich_help_panel=PATIENCE,
    ),
]
StatementTimeout: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=config.LONGEST_TIMEOUT,
        help="The longest time for one statement of pg_dump, such as the COPY of a table; 0 means no limit",
        rich_help_panel=PATIENCE,
    ),
]
Retries: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=config.MOST_RETRIES,
        help="Begin a new backup up to N times after a conflict with a standby's recovery, a restart of the server, or a lock timeout",
        rich_help_panel=PATIENCE,
    ),
]
Level: TypeAlias = Annotated[
    Any,  # typer takes no union
    typer.Option(
        metavar="LEVEL",
        parser=parse_level,
        help="The compression level of zstd, from 1 to 19; auto takes level 3, and higher levels while a backup waits for uploads",
        rich_help_panel=LIMITS,
    ),
]
SplitTables: TypeAlias = Annotated[
    Any,
    typer.Option(
        "--split-tables",
        metavar="auto|never|SIZE",
        parser=parse_split_tables,
        help="Let several jobs dump a large table at the same time. auto: only if the other jobs would otherwise have nothing left to do. "
        "SIZE: every table that takes at least this size on the server's disk. See docs/backing-up.md",
        rich_help_panel=LIMITS,
    ),
]
SpoolLimit: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SIZE",
        parser=parse_size,
        help="The most local disk for temporary files, such as 1GiB",
        show_default=SPOOL_DEFAULT,
        rich_help_panel=LIMITS,
    ),
]
ObjectSize: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SIZE",
        parser=parse_size,
        help="The size of the largest object to write, such as 64MiB",
        show_default=OBJECT_DEFAULT,
        rich_help_panel=LIMITS,
    ),
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be backed up, and write nothing to the store")
]


def make_selection(
    tables: list[str] | None,
    exclude_tables: list[str] | None,
    schemas: list[str] | None,
    exclude_schemas: list[str] | None,
    exclude_table_data: list[str] | None,
    given: "Sequence[GivenOption]",
    *,
    schema_only: bool = False,
    data_only: bool = False,
) -> "Selection":
    """Return the selection of a backup. ``given`` are further options of pg_dump.

    Raise InvalidRequest if two options exclude each other, or if a file of filters can't be read.
    """
    from pipeline.errors import InvalidRequest
    from pipeline.selection import Selection

    if schema_only and data_only:
        raise InvalidRequest("--schema-only and --data-only exclude each other: leave one out.")
    return Selection(
        only="schema" if schema_only else "data" if data_only else None,
        tables=tuple(tables or ()),
        exclude_tables=tuple(exclude_tables or ()),
        schemas=tuple(schemas or ()),
        exclude_schemas=tuple(exclude_schemas or ()),
        exclude_table_data=tuple(exclude_table_data or ()),
    ).with_options(given)
