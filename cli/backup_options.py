"""Options on what to back up, and how: pg_dump's options with the names and meanings in its manual, and a few options of pgstow."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from cli.options import LIMITS, SERVER, WHAT, parse_format, parse_size
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
    typer.Argument(metavar="CONNINFO", help="A database's name, URI or 'key=value …'; libpq's environment counts too"),
]
FiledUnder: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="NAME", help="The cluster to file the backup under; the server's host by default"
    ),
]
Tables: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        "-t",
        metavar="PATTERN",
        help="Only tables that match, also views, sequences and the like; may be given again",
        rich_help_panel=WHAT,
    ),
]
ExcludedTables: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-table",
        "-T",
        metavar="PATTERN",
        help="Leave out tables that match; may be given again",
        rich_help_panel=WHAT,
    ),
]
Schemas: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--schema",
        "-n",
        metavar="PATTERN",
        help="Only schemas that match, with all their objects; may be given again",
        rich_help_panel=WHAT,
    ),
]
ExcludedSchemas: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-schema",
        "-N",
        metavar="PATTERN",
        help="Leave out schemas that match; may be given again",
        rich_help_panel=WHAT,
    ),
]
ExcludedTableData: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-table-data",
        metavar="PATTERN",
        help="Leave out the rows of tables that match, and keep their definitions; may be given again",
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
        help="pg_dump's format: directory, custom, tar or plain; with --all-databases, plain is pg_dumpall's script",
        rich_help_panel=WHAT,
    ),
]
SchemaOnly: TypeAlias = Annotated[
    bool, typer.Option("--schema-only", "-s", help="Definitions, no rows", rich_help_panel=WHAT)
]
DataOnly: TypeAlias = Annotated[
    bool, typer.Option("--data-only", "-a", help="Rows, no definitions", rich_help_panel=WHAT)
]
AllDatabases: TypeAlias = Annotated[
    bool,
    typer.Option("--all-databases", "-A", help="Roles, tablespaces and every database", rich_help_panel=SERVER),
]
ExcludedDatabases: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-database", metavar="PATTERN", help="With --all-databases, leave these out", rich_help_panel=SERVER
    ),
]
DatabasesAtOnce: TypeAlias = Annotated[
    int,
    typer.Option(
        "--databases-at-once",
        metavar="N",
        min=1,
        max=config.MOST_AT_ONCE,
        help="With --all-databases, dump so many at once",
        rich_help_panel=SERVER,
    ),
]
GlobalsOnly: TypeAlias = Annotated[
    bool, typer.Option("--globals-only", "-g", help="Roles and tablespaces", rich_help_panel=SERVER)
]
RolesOnly: TypeAlias = Annotated[bool, typer.Option("--roles-only", help="Roles", rich_help_panel=SERVER)]
TablespacesOnly: TypeAlias = Annotated[
    bool, typer.Option("--tablespaces-only", help="Tablespaces", rich_help_panel=SERVER)
]
NoRolePasswords: TypeAlias = Annotated[
    bool, typer.Option("--no-role-passwords", help="Roles without their passwords", rich_help_panel=SERVER)
]
LockWaitTimeout: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=config.LONGEST_TIMEOUT,
        help="How long pg_dump may wait for somebody else's lock on a table; 0: for ever",
        rich_help_panel=PATIENCE,
    ),
]
StatementTimeout: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=config.LONGEST_TIMEOUT,
        help="How long a statement of pg_dump may run, such as the COPY of a table; 0: for ever",
        rich_help_panel=PATIENCE,
    ),
]
Retries: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=config.MOST_RETRIES,
        help="How often to begin again, as a new backup, after a conflict with a standby's recovery, a restart of the server, or a lock",
        rich_help_panel=PATIENCE,
    ),
]
Level: TypeAlias = Annotated[
    int, typer.Option(metavar="N", min=1, max=19, help="zstd's compression level", rich_help_panel=LIMITS)
]
SpoolLimit: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SIZE",
        parser=parse_size,
        help="Local disk for the spool",
        show_default=SPOOL_DEFAULT,
        rich_help_panel=LIMITS,
    ),
]
ObjectSize: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SIZE",
        parser=parse_size,
        help="The largest object to write",
        show_default=OBJECT_DEFAULT,
        rich_help_panel=LIMITS,
    ),
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be backed up, and write nothing to the store")
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

    Raises InvalidRequest if options exclude each other, or if a file of filters can't be read.
    """
    from pipeline.errors import InvalidRequest
    from pipeline.selection import Selection

    if schema_only and data_only:
        raise InvalidRequest("Definitions alone and rows alone exclude each other: say --schema-only or --data-only.")
    return Selection(
        only="schema" if schema_only else "data" if data_only else None,
        tables=tuple(tables or ()),
        exclude_tables=tuple(exclude_tables or ()),
        schemas=tuple(schemas or ()),
        exclude_schemas=tuple(exclude_schemas or ()),
        exclude_table_data=tuple(exclude_table_data or ()),
    ).with_options(given)
