"""``pgstow list``."""

import dataclasses
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from cli import display, options
from cli.errors import ExitCode
from cli.progress import show_progress
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.catalog.attestation import Attestation
    from pipeline.catalog.keys import BackupRef
    from pipeline.catalog.manifest import Manifest
    from pipeline.catalog.reader import CatalogEntry

_ODD = "pgstow gives no manifest this name"


def list_(
    *,
    from_: options.From,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300.0,
    cluster: options.Cluster = None,
    database: options.Database = None,
    json: options.Json = False,
) -> None:
    """List the backups that a store holds, oldest first."""
    from pipeline.catalog.attestation import latest_attestations
    from pipeline.catalog.listing import list_manifests, tell_foreign
    from pipeline.catalog.reader import read_catalog

    with (
        closing(options.open_store(from_, store_option, give_up_after)) as store,
        show_progress(quiet=True) as notify,
    ):
        listing = list_manifests(store, cluster, database)
        tell_foreign(listing, notify)
        entries = read_catalog(store, listing.manifests, datetime.now(UTC))
        proven = latest_attestations(store, {entry.ref: entry.sha256 for entry in entries}, cluster, database, notify)
    if json:
        display.print_json(
            [
                *(_document(entry, proven.get(entry.ref) if proven else None) for entry in entries),
                *({"key": key, "problem": _ODD} for key in listing.odd),
            ]
        )
    elif entries or listing.odd:
        _print_table(entries, listing.odd, proven)
    else:
        named = "/".join(filter(None, (cluster, database)))
        print(f"No backups {f'of {named} ' if named else ''}in {store.url}.")
    if listing.odd or any(entry.problem for entry in entries):
        raise typer.Exit(ExitCode.DAMAGED)


def _document(entry: "CatalogEntry", attestation: "Attestation | None") -> dict[str, Any]:
    from pipeline.catalog.manifest import summarize

    problem = {"problem": entry.problem} if entry.problem else {}
    if entry.manifest is None:
        return {**dataclasses.asdict(entry.ref), **problem}
    return {**summarize(entry.manifest), "proven": _summarize(attestation), **problem}


def _summarize(attestation: "Attestation | None") -> dict[str, Any] | None:
    return (
        attestation.model_dump(mode="json", include={"level", "good", "unreadable", "replaced", "finished_at"})
        if attestation
        else None
    )


def _print_table(
    entries: "Sequence[CatalogEntry]", odd: "Sequence[str]", proven: "Mapping[BackupRef, Attestation] | None"
) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("CLUSTER", "DATABASE", "BACKUP", "DATA OF"):
        table.add_column(heading, no_wrap=heading in {"BACKUP", "DATA OF"})
    for heading in ("TABLES", "ROWS", "SIZE", "STORED", "TOOK"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("PROVEN", no_wrap=True)
    locks = any(entry.manifest and entry.manifest.retained_until for entry in entries)
    if locks:
        table.add_column("LOCKED UNTIL", no_wrap=True)
    table.add_column("")
    for entry in entries:
        names = [escape(display.one_line(name)) for name in (entry.ref.cluster, entry.ref.database)]
        manifest = entry.manifest
        if manifest is None:
            table.add_row(
                *names,
                entry.ref.backup_id,
                *[""] * (8 if locks else 7),
                f"[red]{escape(display.one_line(entry.problem or ''))}[/red]",
            )
            continue
        totals = manifest.totals
        table.add_row(
            *names,
            manifest.backup_id,
            f"{display.local_time(manifest.snapshot_at):%Y-%m-%d %H:%M} ({display.format_age(manifest.snapshot_at)})",
            f"{totals.tables:,}",
            f"{totals.rows:,}",
            display.format_size(totals.size),
            display.format_size(totals.stored_size),
            display.format_duration((manifest.finished_at - manifest.started_at).total_seconds()),
            "unknown" if proven is None else _describe(proven.get(entry.ref)),
            *([_locked(manifest)] if locks else []),
            f"[red]{escape(display.one_line(entry.problem))}[/red]" if entry.problem else _kind(manifest),
        )
    for key in odd:
        table.add_row(*[""] * (len(table.columns) - 1), f"[red]{escape(display.one_line(key))}: {_ODD}[/red]")
    display.print_table(table)


def _locked(manifest: "Manifest") -> str:
    return f"{display.local_time(manifest.retained_until):%Y-%m-%d %H:%M}" if manifest.retained_until else ""


def _kind(manifest: "Manifest") -> str:
    """Return words for a backup of something else than a whole database; an empty text for a whole database."""
    dump = manifest.dump
    match manifest.kind:
        case "globals":
            return f"{dump.only} only" if dump.only else "roles and tablespaces"
        case "cluster":
            partial = f", {dump.only} only" if dump.only else ", partial" if dump.partial else ""
            script = ", one script" if dump.format == "script" else ""
            return f"{counted(len(manifest.databases), 'database')}{script}{partial}"
        case "database":
            return f"{dump.only} only" if dump.only else "partial" if dump.partial else ""


def _describe(attestation: "Attestation | None") -> str:
    words = display.describe_attestation(attestation)
    return words if attestation is None or attestation.good else f"[red]{words}[/red]"
