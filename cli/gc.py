"""``pgstow gc``."""

import dataclasses
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli import display, options, tables
from cli import retention_options as retention
from cli.errors import removing, result_of
from cli.progress import show_progress
from cli.tables import Column
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.prune.gc import Leftover


def gc(
    *,
    from_: options.From,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300.0,
    cluster: options.Cluster = None,
    database: options.Database = None,
    grace: Annotated[
        timedelta,
        typer.Option(
            metavar="DURATION",
            parser=retention.parse_duration,
            help="How long ago a backup must have begun and stored its last object to count as given up: 12h, 3d",
            show_default="24h",
        ),
    ] = timedelta(hours=24),
    yes: retention.Yes = False,
    dry_run: retention.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove what interrupted runs left: objects of backups that have no manifest. Say what, and ask first."""
    from pipeline.prune.gc import GcRequest, collect, find_leftovers

    request = GcRequest(grace, cluster, database)
    removed = None
    with closing(options.open_store(from_, store_option, give_up_after, quiet=quiet)) as store:
        with show_progress(quiet=quiet or json) as notify:
            leftovers = find_leftovers(request, store, notify, datetime.now(UTC))
        if not json:
            _print_table(leftovers)
        going = [one for one in leftovers if one.kept is None]
        question = f"Remove {counted(sum(one.objects for one in going), 'object')} from {store.url}?"
        if going and retention.is_confirmed(question, yes=yes, dry_run=dry_run, json=json):
            with removing(), show_progress(quiet=quiet or json) as notify:
                removed = collect(request, leftovers, store, notify, datetime.now(UTC))
    done = "There is nothing to remove." if removed is None else f"{display.describe_removal(removed)}."
    with result_of(done) if removed is not None else nullcontext():
        if json:
            listed = [{**dataclasses.asdict(one.ref), **_document(one)} for one in leftovers]
            display.print_json({"leftovers": listed, "removed": removed and display.removal_document(removed)})
        elif removed is not None or not going:
            print(done)


def _document(one: "Leftover") -> dict[str, object]:
    return {
        "objects": one.objects,
        "size": one.size,
        "newest": f"{one.newest:%Y-%m-%dT%H:%M:%S.%fZ}",
        "kept": one.kept,
    }


def _print_table(leftovers: "Sequence[Leftover]") -> None:
    tables.print_backups(
        [one.ref for one in leftovers],
        [
            Column("OBJECTS", [f"{one.objects:,}" for one in leftovers], right=True),
            Column("SIZE", [display.format_size(one.size) for one in leftovers], right=True),
            Column("NEWEST", [f"{one.newest:%Y-%m-%d %H:%M}Z" for one in leftovers], spare=1),
            Column("", ["keep" if one.kept else "[red]drop[/red]" for one in leftovers]),
            Column("WHY", [display.literal(one.kept or "has no manifest") for one in leftovers], wraps=True),
        ],
    )
