"""``pgstow restore``."""

import os
import shlex
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cli import display, options, restore_options, trust_options
from cli.command import Commands
from cli.errors import if_stopped, result_of
from cli.progress import show_progress
from cli.restore_options import LOCK_WAIT
from cli.values import parse_size
from pipeline.archive.selection import EntrySelection
from pipeline.counting import counted
from pipeline.postgres.restore_options import RestoreOptions

if TYPE_CHECKING:
    from pipeline.catalog.find import BackupSelector
    from pipeline.cluster.request import ServerTarget
    from pipeline.config import Limits
    from storage_backends import StorageBackend


app = Commands()


@app.command(
    "restore",
    examples=[
        "pgstow restore --from s3://bucket/prefix --database shop --into shop_new -C",
        "pgstow restore --from s3://bucket/prefix --database shop --into shop -t orders",
    ],
)
@restore_options.with_restore_options
def restore(
    backup: options.BackupId = "latest",
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    at: options.At = None,
    partial: options.Partial = False,
    into: restore_options.Into = None,
    create: restore_options.Create = False,
    maintenance_db: restore_options.MaintenanceDb = None,
    to_directory: restore_options.ToDirectory = None,
    allow_nonempty: restore_options.AllowNonempty = False,
    allow_older: restore_options.AllowOlder = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    choice: EntrySelection,
    to_schema: restore_options.ToSchema = None,
    as_: restore_options.As = None,
    all_databases: restore_options.AllDatabases = False,
    globals_only: restore_options.GlobalsOnly = False,
    how: RestoreOptions,
    map_role: restore_options.Roles = None,
    keep_going: restore_options.KeepGoing = False,
    allow_error: restore_options.AllowErrors = None,
    server_settings: restore_options.ServerSettings = False,
    lock_wait_timeout: restore_options.LockWaitTimeout = LOCK_WAIT,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: trust_options.Unsigned = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
    jobs: options.Jobs = None,
    split_tables: options.SplitTables = "auto",
    transfers: options.Transfers = 4,
    memory: options.Memory = parse_size(options.MEMORY_DEFAULT),
    spool_dir: options.SpoolDir = None,
    limit_rate: options.LimitRate = None,
    nice: options.Nice = 0,
    bin_dir: options.BinDir = None,
) -> None:
    """Restore a database, some of its tables, or a whole server.

    pgstow checks every object before PostgreSQL gets a byte of the object.
    """
    from pipeline.catalog.find import BackupSelector
    from pipeline.cluster.request import ServerTarget
    from pipeline.errors import InvalidRequest
    from pipeline.restore.database import restore as restore_backup
    from pipeline.restore.relocation_plan import Relocation
    from pipeline.restore.request import RestoreRequest

    if (into is None) == (to_directory is None):
        raise InvalidRequest("A restore needs a target: give either --into or --to-directory.")
    trust = trust_options.make_trust(trusted_key)
    wanted = BackupSelector(backup, cluster, database, at, partial, trust, unsigned)
    relocation = None if to_schema is None and as_ is None else Relocation(to_schema, as_)
    how = replace(how, keep_going=keep_going)
    limits = options.make_limits(
        1 if how.single_transaction and jobs is None else jobs, transfers, memory, spool_dir, split_tables=split_tables
    )
    target = options.parse_conninfo(into or "", quiet=quiet).maintained_in(maintenance_db)
    os.nice(nice)
    store = options.open_store(from_, store_option, give_up_after, limit_rate, quiet=quiet)
    if all_databases or globals_only:
        if (
            to_directory is not None
            or create
            or allow_nonempty
            or (globals_only and allow_older)
            or not choice.is_all
            or relocation
            or database
            or all_databases == globals_only
            or how != RestoreOptions()
            or map_role
            or allow_error
        ):
            raise InvalidRequest(
                "Give either --all-databases or --globals-only, and leave out --to-directory and the options that concern one database; "
                "--globals-only also excludes --allow-older."
            )
        on_server = ServerTarget(target, limits, tuple(bin_dir or ()), allow_older, server_settings, lock_wait_timeout)
        _restore_server(store, wanted, on_server, globals_only=globals_only, json=json, quiet=quiet)
        return
    if to_directory is not None:
        made_there = create or allow_nonempty or allow_older or server_settings or lock_wait_timeout != LOCK_WAIT
        if how != RestoreOptions() or relocation or map_role or allow_error or made_there:
            raise InvalidRequest(
                "--to-directory only writes files, so it takes no options of a restore: give these options to pg_restore."
            )
        _extract(store, wanted, to_directory, choice, limits, json=json, quiet=quiet)
        return
    request = RestoreRequest(
        wanted=wanted,
        target=target,
        create=create,
        choice=choice,
        relocation=relocation,
        options=how,
        roles=_parse_roles(map_role or []),
        allow_nonempty=allow_nonempty,
        allow_older=allow_older,
        allowed_errors=tuple(allow_error or ()),
        server_settings=server_settings,
        lock_wait_timeout=lock_wait_timeout,
        limits=limits,
        programs=tuple(bin_dir or ()),
    )
    consequence = (
        "the new database is dropped"
        if create
        else "the database holds either all of the backup or nothing of it"
        if how.single_transaction
        else "the database may hold a part of the backup now"
    )
    started = time.monotonic()
    with closing(store), if_stopped(consequence), show_progress(quiet=quiet or json) as notify:
        restored = restore_backup(request, store, notify)
    seconds = time.monotonic() - started
    manifest = restored.manifest
    done = f"Restored {manifest.cluster}/{manifest.database} {manifest.backup_id} into {restored.database}"
    with result_of(f"{done}."):
        if json:
            display.print_json(
                {
                    "backup_id": manifest.backup_id,
                    "database": restored.database,
                    "tables": restored.tables,
                    "rows": restored.rows,
                    "size": restored.size,
                    "fetched": restored.fetched,
                    "allowed_errors": restored.allowed_errors,
                    "seconds": round(seconds, 3),
                }
            )
            return
        print(f"{display.one_line(done)} in {display.format_duration(seconds)}.")
        if not how.loads_data:
            print("These options restore no data, so pgstow counted no rows.")
            return
        print(
            f"{counted(restored.rows, 'row')} in {counted(restored.tables, 'table')}, as the manifest says; "
            f"{display.format_size(restored.fetched)} fetched, {display.format_size(restored.size)} restored."
        )


def _restore_server(
    store: "StorageBackend",
    wanted: "BackupSelector",
    target: "ServerTarget",
    *,
    globals_only: bool,
    json: bool,
    quiet: bool,
) -> None:
    from pipeline.cluster.restore import restore_cluster, restore_latest_globals

    started = time.monotonic()
    consequence = "the server may hold a part of the backup now"
    with closing(store), if_stopped(consequence), show_progress(quiet=quiet or json) as notify:
        restored = (restore_latest_globals if globals_only else restore_cluster)(wanted, target, store, notify)
    duration = display.format_duration(time.monotonic() - started)
    what = (
        "roles and tablespaces"
        if globals_only
        else f"roles, tablespaces and {counted(len(restored.databases), 'database')}"
    )
    done = f"Restored {display.one_line(restored.cluster)} {restored.backup_id}, {what}, in {duration}."
    with result_of(done):
        if json:
            display.print_json({"backup_id": restored.backup_id, "databases": restored.databases})
        else:
            print(done)


def _parse_roles(pairs: list[str]) -> dict[str, str]:
    from pipeline.errors import InvalidRequest

    roles = {}
    for pair in pairs:
        old, _, new = pair.partition("=")
        if not (old and new):
            raise InvalidRequest(f"--map-role {pair} doesn't name two roles: write OLD=NEW.")
        roles[old] = new
    return roles


def _extract(
    store: "StorageBackend",
    wanted: "BackupSelector",
    folder: Path,
    choice: EntrySelection,
    limits: "Limits",
    *,
    json: bool,
    quiet: bool,
) -> None:
    from pipeline.restore.extract import LIST_NAME, ExtractRequest, extract

    request = ExtractRequest(wanted=wanted, folder=folder, choice=choice, limits=limits)
    with closing(store), if_stopped("the files are removed again"), show_progress(quiet=quiet or json) as notify:
        extracted = extract(request, store, notify)
    done = f"Wrote {counted(extracted.files, 'file')}, {display.format_size(extracted.size)}, of backup {extracted.manifest.backup_id}."
    format_ = extracted.manifest.dump.format
    path = folder if format_ == "directory" else folder / extracted.manifest.files[0].path

    def quoted(place: Path) -> str:
        return shlex.quote(str(place))

    with result_of(done):
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
        print(done)
        if format_ == "plain":
            print(
                f"{quoted(path)} may hold commands for psql. Restore it as docs/recovery.md shows under “A single file”."
            )
        else:
            listed = "" if choice.is_all else f"--use-list={quoted(folder / LIST_NAME)} "
            jobs = "" if format_ == "tar" else f"--jobs={limits.jobs} "
            print(f"Restore it with: pg_restore --dbname=… {jobs}{listed}{quoted(path)}")
