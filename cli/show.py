"""``pgstow show``."""

import dataclasses
import sys
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli import display, key_options, options, trust_options
from cli.command import Commands
from cli.progress import show_progress
from cli.tables import Column, print_table
from pipeline.counting import counted

if TYPE_CHECKING:
    from pipeline.catalog.manifest import Encryption, Manifest
    from pipeline.catalog.reader import StoredManifest
    from pipeline.catalog.signature import BackupSignature
    from pipeline.trust.policy import Trust
    from storage_backends import StorageBackend
    from storage_backends.holds import ObjectLock

_TABLES_SHOWN = 20


app = Commands()


@app.command(
    "show",
    examples=[
        "pgstow show latest --from s3://bucket/prefix --database shop",
        "pgstow show --from s3://bucket/prefix --database shop --toc",
    ],
)
def show(
    backup: options.BackupId = "latest",
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    at: options.At = None,
    partial: options.Partial = False,
    all_tables: Annotated[
        bool, typer.Option("--all", help=f"Show every table, not only the {_TABLES_SHOWN} largest")
    ] = False,
    toc: Annotated[
        bool,
        typer.Option(
            "--toc", help="Print the table of contents as pg_restore --list does. Edit it for pgstow restore --use-list"
        ),
    ] = False,
    json: options.Json = False,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: trust_options.Unsigned = False,
    identity: key_options.IdentityFiles = None,
    identity_command: key_options.IdentityCommand = None,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
    bin_dir: options.BinDir = None,
) -> None:
    """Show what one backup holds.

    pgstow reads the manifest, and for --toc the table of contents, but no rows.
    """
    from pipeline.catalog.find import BackupSelector, find_stored
    from pipeline.catalog.keys import BackupRef
    from pipeline.catalog.signature import describe_signature
    from pipeline.errors import InvalidRequest
    from pipeline.prune.hold import manifest_lock

    if toc and json:
        raise InvalidRequest("--toc and --json exclude each other: leave one out.")
    keys = key_options.read_keys(identity, identity_command, quiet=False)
    trust = trust_options.make_trust(trusted_key)
    wanted = BackupSelector(backup, cluster, database, at, partial, trust, unsigned)
    with closing(options.open_store(from_, store_option, give_up_after)) as store:
        with show_progress(quiet=True) as notify:
            stored = find_stored(store, wanted, notify)
        manifest = stored.manifest
        if toc:
            from pipeline.catalog.key_objects import tell_unneeded
            from pipeline.restore.show_toc import show_toc

            with show_progress(quiet=True) as notify:
                tell_unneeded(manifest, keys, notify)
            listed = show_toc(store, manifest, keys, tuple(bin_dir or ()))
            if sys.stdout.isatty():  # a name must not control a terminal; in a file, names stay as they are
                listed = "".join(f"{display.one_line(line)}\n" for line in listed.split("\n")[:-1])
            print(listed, end="")
            return
        ref = BackupRef(manifest.cluster, manifest.database, manifest.backup_id)
        lock, signature = manifest_lock(store, ref), describe_signature(store, ref, stored.sha256, trust)
        if json:
            signed = signature and dataclasses.asdict(signature)
            document = {**manifest.model_dump(mode="json"), "lock": dataclasses.asdict(lock), "signature": signed}
            display.print_json(document)
        else:
            proven = _proven(store, stored, trust) or "unknown"
            _print(manifest, store.url, lock, _describe_signature(signature), proven, all_tables=all_tables)


def _proven(store: "StorageBackend", stored: "StoredManifest", trust: "Trust | None") -> str | None:
    """Return the result of the backup's latest verification in words. If it can't be read, print a notice, and return None."""
    from pipeline.catalog.attestation import latest_attestations
    from pipeline.catalog.keys import BackupRef

    ref = BackupRef(stored.manifest.cluster, stored.manifest.database, stored.manifest.backup_id)
    with show_progress(quiet=True) as notify:
        found = latest_attestations(store, {ref: stored.sha256}, ref.cluster, ref.database, notify, trust=trust)
    return None if found is None else display.describe_attestation(found.get(ref))


def _describe_compression(manifest: "Manifest") -> str:
    """Return how the backup's objects are compressed; an empty text if only its members have objects."""
    if not manifest.objects:
        return ""
    compression = manifest.compression
    levels = compression.levels or [compression.level]  # manifests from before 1.4 have no levels
    return f" ({compression.algorithm} level{'' if len(levels) == 1 else 's'} {', '.join(map(str, levels))})"


def _describe_sealing(encryption: "Encryption | None") -> str:
    return f"to {', '.join(encryption.recipients)}" if encryption else "no"


def _describe_signature(signature: "BackupSignature | None") -> str:
    if signature is None:
        return "no"
    keys = " and ".join(signature.key_ids) or "no key"
    if signature.problem:
        return f"not to be trusted: {signature.problem}; the signature names {keys}"
    if signature.trusted is None:
        return f"perhaps, by {keys}; --trusted-key checks the signature"
    return f"by the trusted key {keys}, writer {signature.writer}, sequence {signature.sequence}"


def _describe_lock(manifest: "Manifest", lock: "ObjectLock") -> str:
    words = [f"until {_moment(lock.retained_until)}"] if lock.retained_until else []
    words += ["by a legal hold"] if lock.held else []
    told = " and ".join(words)
    if not lock.needs:
        return told or "no"
    lacking = f"can't be read: the credentials need {' and '.join(lock.needs)}"
    if told:
        return f"{told}; any other lock {lacking}"
    asked = manifest.retained_until
    return f"{lacking}; the backup asked for a lock until {_moment(asked)}" if asked else lacking


def _moment(moment: datetime) -> str:
    return f"{display.local_time(moment):%Y-%m-%d %H:%M:%S %Z}"


def _print(manifest: "Manifest", url: str, lock: "ObjectLock", signed: str, proven: str, *, all_tables: bool) -> None:
    from rich.table import Table

    from pipeline.catalog.manifest import File, TableData

    source, totals, dump = manifest.source, manifest.totals, manifest.dump
    left_out = [f"--{dump.only}-only"] if dump.only else []
    left_out += [
        f"{option}={pattern}"
        for option, patterns in (
            ("--table", dump.tables),
            ("--exclude-table", dump.exclude_tables),
            ("--schema", dump.schemas),
            ("--exclude-schema", dump.exclude_schemas),
            ("--exclude-table-data", dump.exclude_table_data),
        )
        for pattern in patterns
    ]
    previous = manifest.previous
    facts = {
        "Backup": manifest.backup_id,
        "Database": f"{manifest.database} of cluster {manifest.cluster}",
        "Store": url,
        "Data of": f"{_moment(manifest.snapshot_at)} ({display.format_age(manifest.snapshot_at)})",
        "Taken": f"in {display.format_duration((manifest.finished_at - manifest.started_at).total_seconds())} by {manifest.tool}, "
        f"pg_dump {source.pg_dump_version}, {counted(dump.jobs, 'job')}",
        "Server": f"PostgreSQL {source.server_version} at {source.host}:{source.port}{', a standby' if source.standby else ''}",
        "System identifier": source.system_identifier or "not readable",
        "WAL position": source.wal_lsn or "not readable",
        "Encoding": f"{source.encoding}, collation {source.collation}",
        "Extensions": ", ".join(f"{extension.name} {extension.version}" for extension in source.extensions) or "none",
        "Format": dump.format,
        "Selection": " ".join(left_out) or "everything",
        "Rows": "none" if manifest.kind == "globals" else f"{totals.rows:,} in {counted(totals.tables, 'table')}",
        "Size": f"{display.format_size(totals.size)} in {counted(totals.files, 'file')}, {display.format_size(totals.stored_size)} stored "
        f"in {counted(totals.objects, 'object')}{_describe_compression(manifest)}",
        "Sealed": _describe_sealing(manifest.encryption),
        "Signed": signed,
        "Tags": ", ".join(manifest.tags) or "none",
        "Proven": proven,
        "Locked": _describe_lock(manifest, lock),
        "Before this": f"{previous.backup_id} (SHA-256 of its manifest {previous.sha256})" if previous else "nothing",
    }
    if dump.options:
        facts["Options"] = " ".join(dump.options)
    if dump.unlogged_left_out:
        names = ", ".join(dump.unlogged_left_out)
        facts["Left out"] = f"rows and values of unlogged tables and sequences, which a standby doesn't have: {names}"
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        grid.add_row(f"[bold]{name}[/bold]", display.literal(value))
    out = display.console()
    out.print(grid)

    stored = dict.fromkeys((file.path for file in manifest.files), 0)
    for file in manifest.files:
        stored[file.path] += sum(segment.length for segment in file.segments)
    rows_of: list[File | TableData] = [*manifest.tables, *(file for file in manifest.files if file.kind == "table")]
    tables = sorted(rows_of, key=lambda table: -table.size)
    shown = tables if all_tables else tables[:_TABLES_SHOWN]
    relations = [filter(None, (getattr(one, "database", None), one.schema_name, one.relation)) for one in shown]
    paths = [one.path if isinstance(one, File) else next((file.path for file in manifest.files), "") for one in shown]
    sizes = [display.format_size(stored[one.path]) if isinstance(one, File) else "" for one in shown]
    if shown:
        out.print()
    print_table(
        [
            Column("TABLE", [display.literal(".".join(names)) for names in relations]),
            Column("ROWS", [f"{one.rows or 0:,}" for one in shown], right=True),
            Column("SIZE", [display.format_size(one.size) for one in shown], right=True),
            Column("STORED", sizes, right=True, spare=1),
            Column("FILE", [display.literal(path) for path in paths], spare=2),
        ]
    )
    if len(tables) > len(shown):
        out.print(f"… and {counted(len(tables) - len(shown), 'more table')}; --all shows them.")
    if large_objects := sum(1 for file in manifest.files if file.kind == "large_object"):
        out.print(f"{counted(large_objects, 'large object')}.")
