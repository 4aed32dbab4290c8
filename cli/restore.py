"""``pgstow restore``."""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import display, options
from cli.errors import Stopped

if TYPE_CHECKING:
    from pipeline.archive_reader import Choice
    from pipeline.catalog import Wanted
    from pipeline.config import Limits
    from storage_backends import StorageBackend


def restore(
    backup: options.BackupId = "latest",
    *,
    from_: options.From,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300.0,
    cluster: options.Cluster = None,
    database: options.Database = None,
    at: options.At = None,
    into: Annotated[
        str | None,
        typer.Option(metavar="CONNINFO", help="The database to restore into; libpq's environment counts too"),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", "-C", help="Make that database, like the one that was backed up")
    ] = False,
    to_directory: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write a directory-format archive for pg_restore instead")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            "-t",
            metavar="PATTERN",
            help="Only these tables, with their indexes and all",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    schema: Annotated[
        list[str] | None,
        typer.Option("--schema", "-n", metavar="PATTERN", help="Only these schemas", rich_help_panel=options.WHAT),
    ] = None,
    allow_nonempty: Annotated[
        bool, typer.Option("--allow-nonempty", help="Restore into a database that holds something")
    ] = False,
    jobs: options.Jobs = None,
    transfers: options.Transfers = 4,
    memory: options.Memory = options.parse_size(options.MEMORY_DEFAULT),
    spool_dir: options.SpoolDir = None,
    limit_rate: options.LimitRate = None,
    nice: options.Nice = 0,
    bin_dir: options.BinDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore a database, or some tables of it; every object is checked before PostgreSQL sees a byte of it."""
    from pipeline.archive_reader import Choice
    from pipeline.catalog import Wanted
    from pipeline.errors import InvalidRequest
    from pipeline.postgres.conninfo import Conninfo
    from pipeline.restore import RestoreRequest
    from pipeline.restore import restore as restore_backup

    if (into is None) == (to_directory is None):
        raise InvalidRequest("Say where to restore: --into a database, or --to-directory.")
    wanted = Wanted(backup=backup, cluster=cluster, database=database, at=at)
    choice = Choice(tables=tuple(table or ()), schemas=tuple(schema or ()))
    limits = options.make_limits(jobs, transfers, memory, spool_dir)
    os.nice(nice)
    store = options.open_store(from_, store_option, give_up_after, limit_rate)
    if to_directory is not None:
        _extract(store, wanted, to_directory, choice, limits, json=json, quiet=quiet)
        return
    request = RestoreRequest(
        wanted=wanted,
        target=Conninfo.parse(into or ""),
        create=create,
        choice=choice,
        allow_nonempty=allow_nonempty,
        limits=limits,
        programs=tuple(bin_dir or ()),
    )
    started = time.monotonic()
    try:
        with closing(store), display.progress(quiet=quiet or json) as notify:
            restored = restore_backup(request, store, notify)
    except Stopped as exc:
        if not create:
            exc.consequence = "the database may hold a part of the backup now"
        raise
    seconds = time.monotonic() - started
    manifest = restored.manifest
    if json:
        display.print_json(
            {
                "backup_id": manifest.backup_id,
                "database": restored.database,
                "tables": restored.tables,
                "rows": restored.rows,
                "size": restored.size,
                "fetched": restored.fetched,
                "seconds": round(seconds, 3),
            }
        )
        return
    print(
        f"Restored {manifest.cluster}/{manifest.database} {manifest.backup_id} into {restored.database} "
        f"in {display.format_duration(seconds)}."
    )
    print(
        f"{restored.rows:,} rows in {restored.tables:,} tables, as the manifest says; "
        f"{display.format_size(restored.fetched)} fetched, {display.format_size(restored.size)} restored."
    )


def _extract(
    store: "StorageBackend",
    wanted: "Wanted",
    folder: Path,
    choice: "Choice",
    limits: "Limits",
    *,
    json: bool,
    quiet: bool,
) -> None:
    from pipeline.extract import LIST_NAME, ExtractRequest, extract

    request = ExtractRequest(wanted=wanted, folder=folder, choice=choice, limits=limits)
    with closing(store), display.progress(quiet=quiet or json) as notify:
        extracted = extract(request, store, notify)
    if json:
        display.print_json(
            {
                "backup_id": extracted.manifest.backup_id,
                "folder": str(extracted.folder),
                "files": extracted.files,
                "size": extracted.size,
            }
        )
        return
    listed = "" if choice.is_all else f"--use-list={folder / LIST_NAME} "
    print(
        f"Wrote {extracted.files:,} files, {display.format_size(extracted.size)}, of backup {extracted.manifest.backup_id}."
    )
    print(f"Restore it with: pg_restore --dbname=… --jobs={limits.jobs} {listed}{folder}")
