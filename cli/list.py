"""``pgstow list``."""

import dataclasses
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import typer

from cli import display, options, tables, trust_options
from cli.command import Commands
from cli.errors import ExitCode
from cli.progress import show_progress
from cli.tables import Column
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.catalog.attestation import Attestation
    from pipeline.catalog.keys import BackupRef
    from pipeline.catalog.manifest import ManifestSummary
    from pipeline.catalog.reader import CatalogEntry

_ODD = "pgstow gives no manifest this name"


app = Commands()


@app.command(
    "list",
    examples=["pgstow list --from s3://bucket/prefix", "pgstow list --from s3://bucket/prefix --database shop --json"],
)
def list_(
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    json: options.Json = False,
    trusted_key: trust_options.TrustedKeys = None,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """List the backups in a store, oldest first."""
    from pipeline.catalog.attestation import latest_attestations
    from pipeline.catalog.listing import list_manifests, tell_foreign
    from pipeline.catalog.reader import read_catalog
    from storage_backends.holds import may_lock

    trust = trust_options.make_trust(trusted_key)
    with (
        closing(options.open_store(from_, store_option, give_up_after)) as store,
        show_progress(quiet=True) as notify,
    ):
        listing = list_manifests(store, cluster, database)
        tell_foreign(listing, notify)
        entries = list(read_catalog(store, listing.manifests, datetime.now(UTC), trust))
        proven = latest_attestations(
            store, {entry.ref: entry.sha256 for entry in entries}, cluster, database, notify, trust=trust
        )
        # The manifest of a copy names the lock that the original has in another store.
        locks = any(entry.manifest and entry.manifest.retained_until for entry in entries) and may_lock(store)
    if json:
        documents = (_document(entry, proven.get(entry.ref) if proven else None) for entry in entries)
        display.print_json_list(chain(documents, ({"key": key, "problem": _ODD} for key in listing.odd)))
    elif entries or listing.odd:
        _print_table(entries, listing.odd, proven, locks=locks)
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
    entries: "Sequence[CatalogEntry]",
    odd: "Sequence[str]",
    proven: "Mapping[BackupRef, Attestation] | None",
    *,
    locks: bool,
) -> None:
    def each(cell: "Callable[[ManifestSummary], str]") -> list[str]:
        return [cell(entry.manifest) if entry.manifest else "" for entry in entries]

    def described(entry: "CatalogEntry") -> str:
        return "" if entry.manifest is None else "unknown" if proven is None else _describe(proven.get(entry.ref))

    def note(entry: "CatalogEntry") -> str:
        if entry.manifest is None:
            return "[red]UNREADABLE[/red]"
        if entry.fault:
            return f"[red]{entry.fault.upper()}[/red]"
        return "[red]NOT BELIEVED[/red]" if entry.problem else _kind(entry.manifest)

    size, duration = display.format_size, display.format_duration
    tables.print_backups(
        [entry.ref for entry in entries],
        [
            Column("DATA OF", each(lambda one: _minute(one.snapshot_at))),
            Column("AGE", each(lambda one: display.format_age(one.snapshot_at)), spare=4),
            Column("TABLES", each(lambda one: _number(one, one.totals.tables)), right=True, spare=2),
            Column("ROWS", each(lambda one: _number(one, one.totals.rows)), right=True, spare=3),
            Column("SIZE", each(lambda one: size(one.totals.size)), right=True, spare=1),
            Column("STORED", each(lambda one: size(one.totals.stored_size)), right=True, spare=5),
            Column(
                "TOOK",
                each(lambda one: duration((one.finished_at - one.started_at).total_seconds())),
                right=True,
                spare=6,
            ),
            Column("PROVEN", [described(entry) for entry in entries], wraps=True),
            Column(
                "LOCKED UNTIL", each(lambda one: _minute(one.retained_until) if locks and one.retained_until else "")
            ),
            Column("", [note(entry) for entry in entries], wraps=True),
        ],
    )
    problems = [entry.problem for entry in entries if entry.problem]
    for sentence in (*problems, *(f"{key}: {_ODD}" for key in odd)):
        display.console().print(f"[red]{display.literal(sentence)}[/red]", soft_wrap=True)


def _minute(moment: datetime) -> str:
    return f"{display.local_time(moment):%Y-%m-%d %H:%M}"


def _number(manifest: "ManifestSummary", number: int) -> str:
    """Return the number in words; an empty text for a backup of roles and tablespaces, which has no tables."""
    return "" if manifest.kind == "globals" else f"{number:,}"


def _kind(manifest: "ManifestSummary") -> str:
    """Return what a backup holds, in words; an empty text for a whole database."""
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
