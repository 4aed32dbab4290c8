"""The options of ``pgstow restore`` and ``pgstow export``: pg_restore's, and a few of pgstow's own."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import typer

from cli.options import SERVER, SERVER_SETTINGS, WHAT
from pipeline.archive.selection import EntrySelection
from pipeline.config import LONGEST_TIMEOUT
from pipeline.errors import InvalidRequest
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.use_list import parse_list

HOW = "How to restore"
LOCK_WAIT = 300
"""The default of ``--lock-wait-timeout``, in seconds."""
_MOST = 2**31 - 1
"""The largest number of objects: pg_restore counts them in 32 bits."""


def _parse_count(text: str | int) -> int:
    """Return the number in a text. Raise typer.BadParameter if it is not a number from 1 to 2,147,483,647."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= _MOST:
        raise typer.BadParameter(f"{text!r} is not a number from 1 to {_MOST}")
    return number


def _flag(help_: str, *spellings: str) -> Any:
    return Annotated[bool, typer.Option(*spellings, help=help_, rich_help_panel=HOW)]


def _value(help_: str, metavar: str, *spellings: str, of: type = list[str], panel: str = HOW, **more: Any) -> Any:
    option = typer.Option(*spellings, metavar=metavar, help=help_, rich_help_panel=panel, **more)
    return Annotated[of | None, option]


CHOICE: Mapping[str, Any] = {
    "tables": _value(
        "Only tables that match, with their indexes, triggers, grants and the like; can be repeated",
        "PATTERN",
        "--table",
        "-t",
        panel=WHAT,
    ),
    "schemas": _value(
        "Only schemas that match, and the tables of --table, if it is given; can be repeated",
        "PATTERN",
        "--schema",
        "-n",
        panel=WHAT,
    ),
    "indexes": _value("Only this index, on an existing table; can be repeated", "NAME", "--index", "-I", panel=WHAT),
    "functions": _value(
        "Only this function, spelled as in pgstow show --toc; can be repeated",
        "NAME(TYPES)",
        "--function",
        "-P",
        panel=WHAT,
    ),
    "triggers": _value(
        "Only this trigger, spelled as in pgstow show --toc; can be repeated",
        "'TABLE NAME'",
        "--trigger",
        "-T",
        panel=WHAT,
    ),
    "exclude_tables": _value("Leave out tables that match; can be repeated", "PATTERN", "--exclude-table", panel=WHAT),
    "exclude_schemas": _value(
        "Leave out schemas that match; can be repeated", "PATTERN", "--exclude-schema", "-N", panel=WHAT
    ),
    "listed": _value(
        "Restore only the entries in this list, in its order. pgstow show --toc prints a list that you can edit",
        "FILE",
        "--use-list",
        "-L",
        of=Path,
        panel=WHAT,
    ),
}
"""For each field of EntrySelection, the type and declaration of its option."""
CHANGES: Mapping[str, Any] = {
    "schema_only": _flag("Only definitions, no data", "--schema-only", "-s"),
    "data_only": _flag("Only data, into existing tables", "--data-only", "-a"),
    "statistics_only": _flag("Only the planner's statistics (pg_restore 18 and newer)", "--statistics-only"),
    "no_schema": _flag(
        "Only data and the planner's statistics, no definitions (pg_restore 18 and newer)", "--no-schema"
    ),
    "no_data": _flag("Only definitions and the planner's statistics, no data (pg_restore 18 and newer)", "--no-data"),
    "no_statistics": _flag("Leave out the planner's statistics (pg_restore 18 and newer)", "--no-statistics"),
    "statistics": _flag(
        "Restore the planner's statistics, too; this is the default (pg_restore 18 and newer)", "--statistics"
    ),
    "sections": _value("Only this section: pre-data, data or post-data; can be repeated", "SECTION", "--section"),
    "clean": _flag("Drop each object before it is restored", "--clean", "-c"),
    "if_exists": _flag("With --clean: go on if an object to drop does not exist", "--if-exists"),
    "no_owner": _flag("Leave out owners, so that the role that restores owns every object", "--no-owner", "-O"),
    "use_set_session_authorization": _flag(
        "Create each object as its owner, instead of changing its owner afterwards", "--use-set-session-authorization"
    ),
    "no_privileges": _flag("Leave out privileges (GRANT, REVOKE)", "--no-privileges", "--no-acl", "-x"),
    "no_comments": _flag("Leave out comments", "--no-comments"),
    "no_policies": _flag("Leave out row security and its policies (pg_restore 18 and newer)", "--no-policies"),
    "no_publications": _flag("Leave out publications", "--no-publications"),
    "no_subscriptions": _flag("Leave out subscriptions", "--no-subscriptions"),
    "no_security_labels": _flag("Leave out security labels", "--no-security-labels"),
    "no_tablespaces": _flag("Restore all objects into the default tablespace", "--no-tablespaces"),
    "no_table_access_method": _flag(
        "Give each table the default access method (pg_restore 15 and newer)", "--no-table-access-method"
    ),
    "role": _value("Switch to this role after login (SET ROLE)", "ROLE", "--role", of=str),
    "disable_triggers": _flag(
        "With --data-only: disable triggers and foreign keys while the data is loaded", "--disable-triggers"
    ),
    "superuser": _value(
        "With --disable-triggers: the superuser that disables them", "ROLE", "--superuser", "-S", of=str
    ),
    "single_transaction": _flag("Restore everything in one transaction, with one job", "--single-transaction", "-1"),
    "transaction_size": _value(
        "Commit after this number of objects (pg_restore 17 and newer)",
        "N",
        "--transaction-size",
        of=int,
        parser=_parse_count,
    ),
}
"""For each field of RestoreOptions, the type and declaration of its option."""

Into: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="CONNINFO",
        help="The database to restore into: its name, a URI, or 'host=… dbname=…'. libpq's environment, such as PGHOST, fills in the rest",
    ),
]
Create: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--create", "-C", help="Create the database in --into, with the settings of the database that was backed up"
    ),
]
MaintenanceDb: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--maintenance-db",
        metavar="DATABASE",
        help="The existing database to which pgstow connects in order to create other databases. "
        "Default: postgres, or else template1, or else the database in --into if it exists",
    ),
]
AllDatabases: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--all-databases",
        "-A",
        help="Restore a whole server: roles, tablespaces and every database",
        rich_help_panel=SERVER,
    ),
]
GlobalsOnly: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--globals-only", "-g", help="Restore only the roles and tablespaces of a server", rich_help_panel=SERVER
    ),
]
ToDirectory: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Write pg_dump's files into this folder, for pg_restore, instead of restoring a database"
    ),
]
ToSchema: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SCHEMA", help="Restore the chosen objects into this schema", rich_help_panel=WHAT),
]
As: TypeAlias = Annotated[
    str | None,
    typer.Option("--as", metavar="TABLE", help="Restore the chosen table under this name", rich_help_panel=WHAT),
]
AllowNonempty: TypeAlias = Annotated[
    bool,
    typer.Option("--allow-nonempty", help="Restore into a database, or into tables, that are not empty"),
]
AllowOlder: TypeAlias = Annotated[
    bool, typer.Option("--allow-older", help="Restore into a server whose major version is older than the backup's")
]
KeepGoing: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--keep-going", help="Go on after an error of SQL, as pg_restore does by default", rich_help_panel=HOW
    ),
]
AllowErrors: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-error",
        metavar="REGEX",
        help="With --keep-going: do not fail because of errors that match this regular expression; can be repeated",
        rich_help_panel=HOW,
    ),
]
ServerSettings: TypeAlias = Annotated[
    bool, typer.Option("--server-settings", help=SERVER_SETTINGS, rich_help_panel=HOW)
]
LockWaitTimeout: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=LONGEST_TIMEOUT,
        help="The longest wait for a lock that another session holds; 0 means no limit",
        rich_help_panel=HOW,
    ),
]
Roles: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--map-role",
        metavar="OLD=NEW",
        help="Use the role NEW instead of OLD as owner, in privileges and in policies; can be repeated",
        rich_help_panel=HOW,
    ),
]


def with_restore_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the options in CHOICE and CHANGES instead of its parameters ``choice`` and ``how``.

    The command gets the options as an EntrySelection and as RestoreOptions. Raise InvalidRequest if two options contradict each other, or if
    the list of entries can't be read.
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
        raise InvalidRequest(f"The list {path} can't be read: {exc.strerror}.") from exc
