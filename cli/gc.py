"""``pgstow gc``."""

import dataclasses
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli import display, options, tables
from cli import retention_options as retention
from cli.command import Commands
from cli.errors import UNFINISHED_REMOVAL, if_stopped, result_of
from cli.progress import show_progress
from cli.tables import Column
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.prune.gc import Leftover


app = Commands()


@app.command(
    "gc",
    examples=["pgstow gc --from s3://bucket/prefix --dry-run", "pgstow gc --from s3://bucket/prefix --grace 3d -y"],
)
def gc(
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    grace: Annotated[
        timedelta,
        typer.Option(
            metavar="DURATION",
            parser=retention.parse_duration,
            help="Remove an unfinished backup only if its start and its newest object are older than this, such as 12h or 3d",
            show_default="24h",
        ),
    ] = timedelta(hours=24),
    dry_run: retention.DryRun = False,
    yes: retention.Yes = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Remove the objects of backups that were never finished.

    An interrupted backup leaves objects, but no manifest. pgstow first lists these objects, and asks before it removes them.
    """
    from pipeline.prune.facts import Known
    from pipeline.prune.gc import GcRequest, collect, find_leftovers

    request = GcRequest(grace, cluster, database)
    removed, known = None, Known()
    with closing(options.open_store(from_, store_option, give_up_after, quiet=quiet)) as store:
        with show_progress(quiet=quiet or json) as notify:
            leftovers = find_leftovers(request, store, notify, datetime.now(UTC), known)
        if not json:
            _print_table(leftovers)
        going = [one for one in leftovers if one.kept is None]
        question = f"Remove {counted(sum(one.objects for one in going), 'object')} from {store.url}?"
        if going and retention.is_confirmed(question, yes=yes, dry_run=dry_run, json=json):
            with if_stopped(UNFINISHED_REMOVAL), show_progress(quiet=quiet or json) as notify:
                removed = collect(request, leftovers, store, notify, datetime.now(UTC), known)
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
