"""Options on what to restore and how, which ``restore`` and ``export`` share: pg_restore's, and a few of pgstow."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import typer

from cli.options import SERVER, WHAT
from pipeline.archive.selection import EntrySelection
from pipeline.errors import InvalidRequest
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.use_list import parse_list

HOW = "How to restore"
_MOST = 2**31 - 1
"""pg_restore counts objects in 32 bits."""


def _flag(help_: str, *spellings: str) -> Any:
    return Annotated[bool, typer.Option(*spellings, help=help_, rich_help_panel=HOW)]


def _value(help_: str, metavar: str, *spellings: str, of: type = list[str], panel: str = HOW, **limits: int) -> Any:
    option = typer.Option(*spellings, metavar=metavar, help=help_, rich_help_panel=panel, **cast("Any", limits))
    return Annotated[of | None, option]


CHOICE: Mapping[str, Any] = {
    "tables": _value("Only these tables, with their indexes and all", "PATTERN", "--table", "-t", panel=WHAT),
    "schemas": _value("Only these schemas, and the tables of -t", "PATTERN", "--schema", "-n", panel=WHAT),
    "indexes": _value("Only these indexes, of tables that are there", "NAME", "--index", "-I", panel=WHAT),
    "functions": _value(
        "Only these functions, as pgstow show --toc spells them", "NAME(TYPES)", "--function", "-P", panel=WHAT
    ),
    "triggers": _value(
        "Only these triggers, as pgstow show --toc spells them", "'TABLE NAME'", "--trigger", "-T", panel=WHAT
    ),
    "exclude_tables": _value("All but these tables", "PATTERN", "--exclude-table", panel=WHAT),
    "exclude_schemas": _value("All but these schemas", "PATTERN", "--exclude-schema", "-N", panel=WHAT),
    "listed": _value(
        "Only the entries of this list, in its order; pgstow show --toc prints one to edit",
        "FILE",
        "--use-list",
        "-L",
        of=Path,
        panel=WHAT,
    ),
}
"""By field of EntrySelection: the option's type and declaration."""
CHANGES: Mapping[str, Any] = {
    "schema_only": _flag("Definitions without data", "--schema-only", "-s"),
    "data_only": _flag("Data into tables that are there", "--data-only", "-a"),
    "statistics_only": _flag("Only the planner's statistics (pg_restore 18)", "--statistics-only"),
    "no_schema": _flag("Data and statistics, no definitions (pg_restore 18)", "--no-schema"),
    "no_data": _flag("Definitions and statistics, no data (pg_restore 18)", "--no-data"),
    "no_statistics": _flag("Leave out the planner's statistics (pg_restore 18)", "--no-statistics"),
    "statistics": _flag("The planner's statistics too, as by default (pg_restore 18)", "--statistics"),
    "sections": _value("pre-data, data or post-data", "SECTION", "--section"),
    "clean": _flag("Drop what is restored before it is made anew", "--clean", "-c"),
    "if_exists": _flag("With --clean: an object that isn't there is no error", "--if-exists"),
    "no_owner": _flag("Leave out owners: the role that restores owns everything", "--no-owner", "-O"),
    "use_set_session_authorization": _flag(
        "Make each object as its owner, instead of giving it to the owner", "--use-set-session-authorization"
    ),
    "no_privileges": _flag("Leave out grants", "--no-privileges", "--no-acl", "-x"),
    "no_comments": _flag("Leave out comments", "--no-comments"),
    "no_policies": _flag("Leave out row security and its policies (pg_restore 18)", "--no-policies"),
    "no_publications": _flag("Leave out publications", "--no-publications"),
    "no_subscriptions": _flag("Leave out subscriptions", "--no-subscriptions"),
    "no_security_labels": _flag("Leave out security labels", "--no-security-labels"),
    "no_tablespaces": _flag("Put everything into the default tablespace", "--no-tablespaces"),
    "no_table_access_method": _flag(
        "Give each table the default access method (pg_restore 15)", "--no-table-access-method"
    ),
    "role": _value("SET ROLE to this after login", "ROLE", "--role", of=str),
    "disable_triggers": _flag("With --data-only: neither triggers nor foreign keys see the data", "--disable-triggers"),
    "superuser": _value(
        "With --disable-triggers: the superuser who disables them", "ROLE", "--superuser", "-S", of=str
    ),
    "single_transaction": _flag("All or nothing, in a single job", "--single-transaction", "-1"),
    "transaction_size": _value(
        "Commit after so many objects (pg_restore 17)", "NUMBER", "--transaction-size", of=int, min=1, max=_MOST
    ),
}
"""By field of RestoreOptions: the option's type and declaration."""

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


def with_restore_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the options in CHOICE and CHANGES in the place of its parameters ``choice`` and ``how``.

    The command gets them as an EntrySelection and as RestoreOptions. Raises InvalidRequest if options contradict each other, or if the list of
    entries can't be read.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters = []
    for parameter in signature.parameters.values():
        if options := {"choice": CHOICE, "how": CHANGES}.get(parameter.name):
            parameters += [_parameter(name, annotation) for name, annotation in options.items()]
        else:
            parameters.append(parameter)

    @wraps(command)
    def taking_options(**given: Any) -> None:
        listed = _read_list(given.pop("listed"))
        chosen = {name: tuple(given.pop(name) or ()) for name in CHOICE if name != "listed"}
        changes = {name: given.pop(name) for name in CHANGES}
        changes["sections"] = tuple(changes["sections"] or ())
        command(choice=EntrySelection(**chosen, listed=listed), how=RestoreOptions(**changes), **given)

    typed = cast("Any", taking_options)
    typed.__signature__ = signature.replace(parameters=parameters)
    typed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return taking_options


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    default = False if annotation.__origin__ is bool else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _read_list(path: Path | None) -> tuple[int, ...]:
    try:
        return parse_list(path.read_text("utf-8", "replace")) if path else ()
    except OSError as exc:
        raise InvalidRequest(f"Cannot read the list {path}: {exc.strerror}.") from exc
