"""``pgstow copy``."""

import dataclasses
from collections import Counter, defaultdict
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import display, options, tables, trust_options
from cli import retention_options as retention
from cli.command import Commands
from cli.errors import ExitCode, exit_code_of, if_stopped, print_error, result_of, sentence_of
from cli.progress import show_progress
from cli.tables import Column
from cli.values import parse_size
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.copy.request import CopyOutcome
    from storage_backends import StorageBackend

_UNFINISHED = "the backups copied so far stay; run the command again, and it goes on where it stopped"

app = Commands()


@app.command(
    "copy",
    examples=[
        "pgstow copy --all --from s3://bucket/prefix --to gs://other-bucket/prefix",
        "pgstow copy latest --database shop --from s3://bucket/prefix --to /mnt/backups",
    ],
)
def copy(
    backup: Annotated[
        str | None, typer.Argument(metavar="BACKUP", help="The backup's ID, the beginning of its ID, or 'latest'")
    ] = None,
    *,
    from_: options.From,
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="URL",
            help="The store that gets the copies: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder. If it is repeated, pgstow reads each "
            "backup once, and writes it to every store",
        ),
    ],
    all_: Annotated[
        bool, typer.Option("--all", help="All backups in the store, or of --cluster and --database")
    ] = False,
    at_most_age: Annotated[
        timedelta | None,
        typer.Option(
            metavar="DURATION",
            parser=retention.parse_duration,
            help="Like --all, but only backups that began at most this time ago, such as 36h or 7d",
        ),
    ] = None,
    database: options.Database = None,
    cluster: options.Cluster = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be copied, and copy nothing")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned",
            help="Copy backups without a signature, too",
            rich_help_panel=trust_options.PANEL,
        ),
    ] = False,
    create_store: options.CreateStore = False,
    give_up_after: options.GiveUpAfter = 300,
    retain_days: retention.RetainDays = None,
    retain_until: retention.RetainUntil = None,
    transfers: options.Transfers = 4,
    memory: options.Memory = parse_size(options.MEMORY_DEFAULT),
    limit_rate: options.LimitRate = None,
) -> None:
    """Copy backups from one store to another, with their signatures and attestations.

    pgstow checks every object against the manifest, overwrites nothing, and stores the manifest last. It sends no backup twice.
    """
    from pipeline.copy.copy import copy as copy_backups
    from pipeline.copy.request import CopyRequest
    from pipeline.errors import InvalidRequest
    from storage_backends import place_of

    if (backup is not None) + all_ + (at_most_age is not None) != 1:
        raise InvalidRequest("Name a BACKUP, or give --all or --at-most-age, but only one of them.")
    if place_of(from_) in map(place_of, to):
        raise InvalidRequest("--from and --to name the same store: name another one.")
    request = CopyRequest(
        backup=backup,
        cluster=cluster,
        database=database,
        at_most_age=at_most_age,
        trust=trust_options.make_trust(trusted_key),
        unsigned=unsigned,
        limits=options.make_limits(None, transfers, memory, None),
        dry_run=dry_run,
    )
    locks = retention.lock_options(retain_days, retain_until)
    with ExitStack() as stack:
        source: StorageBackend = stack.enter_context(
            closing(options.open_store(from_, None, give_up_after, limit_rate, quiet=quiet))
        )
        # A target that can't be opened costs the others nothing, if it is opened only by its first request.
        targets = options.open_stores(
            to, None, give_up_after, limit_rate, locks, create=create_store, quiet=quiet, lazily=True
        )
        for target in targets:
            stack.enter_context(closing(target))
        with if_stopped(_UNFINISHED), show_progress(quiet=quiet or json) as notify:
            result = copy_backups(request, source, targets, notify, datetime.now(UTC))
    _print_errors(result.outcomes)
    told = [_describe(url, result.outcomes) for url in dict.fromkeys(target.url for target in targets)]
    if result.tombstones:
        told.append(f"{counted(result.tombstones, 'tombstone')} copied.")
    with result_of(" ".join(told)):
        if json:
            display.print_json([_document(one) for one in result.outcomes])
        else:
            if dry_run:
                _print_table(result.outcomes)
            for sentence in told:
                print(sentence)
    if codes := {exit_code_of(one.error) for one in result.outcomes if one.error}:
        raise typer.Exit(ExitCode.DAMAGED if ExitCode.DAMAGED in codes else min(codes))


def _print_errors(outcomes: "Sequence[CopyOutcome]") -> None:
    """Print each error once. If a store is down, many backups have the same error."""
    backups = defaultdict[tuple[str, str], list[str]](list)
    for one in outcomes:
        if one.error:
            name = f"{one.ref.cluster}/{one.ref.database} {one.ref.backup_id}"
            backups[one.target, sentence_of(one.error)].append(name)
    for (url, sentence), names in backups.items():
        are = f" and {len(names) - 1:,} more are" if len(names) > 1 else " is"
        print_error(f"{names[0]}{are} not copied to {url}: {sentence}")


def _describe(url: str, outcomes: "Sequence[CopyOutcome]") -> str:
    """Return a sentence on what became of the backups in a target."""
    from pipeline.copy.request import CopyState

    here = [one for one in outcomes if one.target == url]
    number = Counter(one.state for one in here)
    objects, size = sum(one.objects for one in here), display.format_size(sum(one.size for one in here))
    done = CopyState.MISSING if number[CopyState.MISSING] else CopyState.COPIED
    verb = "would be copied" if done is CopyState.MISSING else "copied"
    parts = [f"{counted(number[done], 'backup')} {verb} ({counted(objects, 'object')}, {size})"]
    for state, words in (
        (CopyState.PRESENT, "there already"),
        (CopyState.REMOVED, "removed there"),
        (CopyState.FAILED, "failed"),
    ):
        parts += [f"{number[state]:,} {words}"] if number[state] else []
    return f"{url}: {', '.join(parts)}."


def _document(one: "CopyOutcome") -> dict[str, Any]:
    return {
        **dataclasses.asdict(one.ref),
        "store": one.target,
        "state": one.state,
        "objects": one.objects,
        "size": one.size,
        "problem": one.error and sentence_of(one.error),
    }


def _print_table(outcomes: "Sequence[CopyOutcome]") -> None:
    rows = sorted(outcomes, key=lambda one: (one.ref.cluster, one.ref.database, one.ref.backup_id))
    tables.print_backups(
        [one.ref for one in rows],
        [
            Column("OBJECTS", [f"{one.objects:,}" for one in rows], right=True, spare=1),
            Column("SIZE", [display.format_size(one.size) if one.objects else "" for one in rows], right=True),
            Column("TO", [display.literal(one.target) for one in rows], wraps=True),
            Column("", [one.state.value for one in rows]),
        ],
    )
