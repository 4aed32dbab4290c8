"""Options on what to restore, and how: pg_restore's options with the names and meanings in its manual, and a few options of pgstow."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from cli.options import SERVER, WHAT

HOW = "How to restore"

Into: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="CONNINFO", help="The database to restore into; libpq's environment counts too"),
]
Create: TypeAlias = Annotated[
    bool, typer.Option("--create", "-C", help="Make that database, like the one that was backed up")
]
MaintenanceDb: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--maintenance-db",
        metavar="NAME",
        help="The database to connect to when pgstow makes another; by default postgres, else template1, else the one in --into",
    ),
]
AllDatabases: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--all-databases",
        "-A",
        help="A whole cluster: roles, tablespaces, every database",
        rich_help_panel=SERVER,
    ),
]
GlobalsOnly: TypeAlias = Annotated[
    bool,
    typer.Option("--globals-only", "-g", help="A cluster's roles and tablespaces", rich_help_panel=SERVER),
]
ToDirectory: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Write a directory-format archive for pg_restore instead")
]
Tables: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        "-t",
        metavar="PATTERN",
        help="Only these tables, with their indexes and all",
        rich_help_panel=WHAT,
    ),
]
Schemas: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--schema", "-n", metavar="PATTERN", help="Only these schemas", rich_help_panel=WHAT),
]
ToSchema: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Put them into this schema instead", rich_help_panel=WHAT),
]
As: TypeAlias = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Give the one table this name instead", rich_help_panel=WHAT),
]
AllowNonempty: TypeAlias = Annotated[
    bool, typer.Option("--allow-nonempty", help="Restore into a database, or data into tables, that hold something")
]
AllowOlder: TypeAlias = Annotated[
    bool, typer.Option("--allow-older", help="Restore into an older major version than was backed up")
]
SchemaOnly: TypeAlias = Annotated[
    bool, typer.Option("--schema-only", "-s", help="Definitions without data", rich_help_panel=HOW)
]
DataOnly: TypeAlias = Annotated[
    bool, typer.Option("--data-only", "-a", help="Data into tables that are there", rich_help_panel=HOW)
]
Sections: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--section", metavar="SECTION", help="pre-data, data or post-data", rich_help_panel=HOW),
]
UseList: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--use-list",
        "-L",
        metavar="FILE",
        help="Only the entries of this list, in its order; pgstow show --toc prints one to edit",
        rich_help_panel=HOW,
    ),
]
Clean: TypeAlias = Annotated[
    bool, typer.Option("--clean", "-c", help="Drop what is restored before it is made anew", rich_help_panel=HOW)
]
IfExists: TypeAlias = Annotated[
    bool, typer.Option("--if-exists", help="With --clean: what isn't there is no error", rich_help_panel=HOW)
]
NoOwner: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-owner", "-O", help="Leave out owners: objects belong to the role that restores them", rich_help_panel=HOW
    ),
]
NoPrivileges: TypeAlias = Annotated[
    bool, typer.Option("--no-privileges", "--no-acl", "-x", help="Leave out grants", rich_help_panel=HOW)
]
NoComments: TypeAlias = Annotated[bool, typer.Option("--no-comments", help="Leave out comments", rich_help_panel=HOW)]
NoPublications: TypeAlias = Annotated[
    bool, typer.Option("--no-publications", help="Leave out publications", rich_help_panel=HOW)
]
NoSubscriptions: TypeAlias = Annotated[
    bool, typer.Option("--no-subscriptions", help="Leave out subscriptions", rich_help_panel=HOW)
]
NoSecurityLabels: TypeAlias = Annotated[
    bool, typer.Option("--no-security-labels", help="Leave out security labels", rich_help_panel=HOW)
]
NoTablespaces: TypeAlias = Annotated[
    bool, typer.Option("--no-tablespaces", help="Put everything into the default tablespace", rich_help_panel=HOW)
]
Role: TypeAlias = Annotated[
    str | None, typer.Option("--role", metavar="ROLE", help="SET ROLE to this after login", rich_help_panel=HOW)
]
DisableTriggers: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--disable-triggers",
        help="With --data-only: no triggers or foreign keys while rows are loaded",
        rich_help_panel=HOW,
    ),
]
SingleTransaction: TypeAlias = Annotated[
    bool, typer.Option("--single-transaction", "-1", help="All or nothing, in a single job", rich_help_panel=HOW)
]
KeepGoing: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--keep-going", help="Go on after errors, as pg_restore does without --exit-on-error", rich_help_panel=HOW
    ),
]
AllowErrors: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-error",
        metavar="PATTERN",
        help="With --keep-going: errors that match this regular expression are no failure",
        rich_help_panel=HOW,
    ),
]
Roles: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--map-role",
        metavar="OLD=NEW",
        help="What belonged, was granted or applied to OLD goes to NEW",
        rich_help_panel=HOW,
    ),
]
