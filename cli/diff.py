"""``pgstow diff``."""

import dataclasses
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import display, options, tables, trust_options
from cli.command import Commands
from cli.progress import show_progress
from cli.tables import Column
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.audit.diff import BackupDiff, Side, TableDiff

_TABLES_SHOWN = 50
_AFTER = "The backup AFTER"

app = Commands()


@app.command(
    "diff",
    examples=[
        "pgstow diff --from s3://bucket/prefix --database shop",
        "pgstow diff 20261123 20261130 --from s3://bucket/prefix --database shop --json",
        "pgstow diff latest latest --from s3://bucket/a --after-from s3://bucket/b",
    ],
)
def diff(
    before: Annotated[
        str,
        typer.Argument(
            metavar="BEFORE",
            help="The earlier backup's ID, the beginning of its ID, 'latest', or 'previous': the latest backup with older data than AFTER",
        ),
    ] = "previous",
    after: Annotated[
        str,
        typer.Argument(metavar="AFTER", help="The later backup's ID, the beginning of its ID, or 'latest'"),
    ] = "latest",
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    after_from: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The store of AFTER. Default: the store in --from", rich_help_panel=_AFTER),
    ] = None,
    after_database: Annotated[
        str | None,
        typer.Option(
            metavar="DATABASE", help="The database of AFTER. Default: the one in --database", rich_help_panel=_AFTER
        ),
    ] = None,
    after_cluster: Annotated[
        str | None,
        typer.Option(
            metavar="CLUSTER", help="The cluster of AFTER. Default: the one in --cluster", rich_help_panel=_AFTER
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Let 'latest' and 'previous' also mean partial backups")
    ] = False,
    all_tables: Annotated[
        bool, typer.Option("--all", help=f"Show every table that differs, not only the first {_TABLES_SHOWN}")
    ] = False,
    json: options.Json = False,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned",
            help="Use a backup that you name by its ID even if no --trusted-key signed it",
            rich_help_panel=trust_options.PANEL,
        ),
    ] = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Show how two backups differ: tables, rows and bytes, the server, the options, and the recipients.

    pgstow reads the manifests, but no data. The exit code is 0 whether or not the backups differ.
    """
    from pipeline.audit.diff import diff_backups
    from pipeline.catalog.find import BackupSelector

    trust = trust_options.make_trust(trusted_key)
    wanted = BackupSelector(before, cluster, database, partial=partial, trust=trust, unsigned=unsigned)
    other = dataclasses.replace(
        wanted, backup=after, cluster=after_cluster or cluster, database=after_database or database
    )
    with ExitStack() as stack:
        store = stack.enter_context(closing(options.open_store(from_, store_option, give_up_after)))
        later = store
        if after_from is not None:
            later = stack.enter_context(closing(options.open_store(after_from, store_option, give_up_after)))
        notify = stack.enter_context(show_progress(quiet=True))
        found = diff_backups(store, wanted, later, other, notify)
    if json:
        display.print_json(_document(found))
    else:
        _print(found, all_tables=all_tables)


def _document(found: "BackupDiff") -> dict[str, Any]:
    document = dataclasses.asdict(dataclasses.replace(found, members=()))
    for side in ("before", "after"):
        document[side]["snapshot_at"] = f"{document[side]['snapshot_at']:%Y-%m-%dT%H:%M:%SZ}"
    return {"differs": found.differs, **document, "members": [_document(member) for member in found.members]}


def _print(found: "BackupDiff", *, all_tables: bool) -> None:
    _print_sides(found.before, found.after)
    out = display.console()
    if found.fields:
        print()
        tables.print_table(
            [
                Column("FIELD", [display.literal(one.field) for one in found.fields]),
                Column("BEFORE", [display.literal(one.before or "") for one in found.fields], wraps=True),
                Column("AFTER", [display.literal(one.after or "") for one in found.fields], wraps=True),
            ]
        )
    if found.tables:
        print()
        shown = found.tables if all_tables else found.tables[:_TABLES_SHOWN]
        _print_tables(shown)
        if more := len(found.tables) - len(shown):
            print(f"… and {counted(more, 'more table')}; --all shows them.")
    if not found.differs:
        print("No difference was found.")
    if found.same:
        print(f"{counted(found.same, 'table')} {'is' if found.same == 1 else 'are'} the same.")
    if found.same_size:
        has = "has" if found.same_size == 1 else "have"
        out.print(
            f"{counted(found.same_size, 'table')} {has} the same number of rows and bytes. The content can't be compared, since the "
            "checksums are under different keys.",
            soft_wrap=True,
        )
    for member in found.members:
        print()
        _print(member, all_tables=all_tables)


def _print_sides(*sides: "Side") -> None:
    tables.print_table(
        [
            Column("", ["before", "after"]),
            Column("CLUSTER", [display.literal(one.cluster) for one in sides]),
            Column("DATABASE", [display.literal(one.database) for one in sides]),
            Column("BACKUP", [one.backup_id for one in sides]),
            Column("DATA OF", [f"{display.local_time(one.snapshot_at):%Y-%m-%d %H:%M}" for one in sides], spare=1),
            Column("TABLES", [f"{one.tables:,}" for one in sides], right=True, spare=3),
            Column("ROWS", [f"{one.rows:,}" for one in sides], right=True, spare=2),
            Column("SIZE", [display.format_size(one.size) for one in sides], right=True),
            Column("STORED", [display.format_size(one.stored_size) for one in sides], right=True, spare=4),
        ]
    )


def _print_tables(shown: "Sequence[TableDiff]") -> None:
    names = [".".join(filter(None, (one.database, one.schema, one.relation))) for one in shown]
    tables.print_table(
        [
            Column("TABLE", [display.literal(name) for name in names]),
            Column("", [one.change for one in shown]),
            Column("ROWS", [f"{one.rows_after:,}" for one in shown], right=True),
            Column("CHANGE", [f"{one.rows_after - one.rows_before:+,}" for one in shown], right=True),
            Column("SIZE", [display.format_size(one.size_after) for one in shown], right=True),
            Column("CHANGE", [_signed(one.size_after - one.size_before) for one in shown], right=True),
        ]
    )


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{display.format_size(abs(size))}"
