"""``pgstow backup``."""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, cast

import typer

from cli import backup_options as what
from cli import display, key_options, options
from cli import retention_options as retention
from cli import trust_options as trust
from cli.command import Commands
from cli.dump_options import with_dump_options
from cli.errors import UNFINISHED_BACKUP, exit_code_of, if_stopped, result_of
from cli.progress import show_progress
from cli.values import parse_size
from pipeline.counting import counted

if TYPE_CHECKING:
    from pipeline.archive.destinations import BackupResults
    from pipeline.backup.dry_run import BackupPlan
    from pipeline.catalog.origin import Format
    from pipeline.events import Notify
    from pipeline.pg_dump_options import GivenOption
    from storage_backends import StorageBackend


app = Commands()


@app.command(
    "backup",
    examples=[
        "pgstow backup service=shop --to s3://bucket/prefix",
        "pgstow backup service=shop --to s3://bucket/prefix -n sales -T sales.audit",
        "pgstow backup service=shop --all-databases --to /mnt/backups/postgres",
    ],
)
@with_dump_options
def backup(
    conninfo: what.Source = "",
    *,
    to: options.ToEach = None,
    cluster: what.FiledUnder = None,
    dry_run: what.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    table: what.Tables = None,
    exclude_table: what.ExcludedTables = None,
    schema: what.Schemas = None,
    exclude_schema: what.ExcludedSchemas = None,
    exclude_table_data: what.ExcludedTableData = None,
    format_: what.DumpFormat = "directory",
    schema_only: what.SchemaOnly = False,
    data_only: what.DataOnly = False,
    all_databases: what.AllDatabases = False,
    exclude_database: what.ExcludedDatabases = None,
    at_once: what.DatabasesAtOnce = 1,
    globals_only: what.GlobalsOnly = False,
    roles_only: what.RolesOnly = False,
    tablespaces_only: what.TablespacesOnly = False,
    no_role_passwords: what.NoRolePasswords = False,
    create_store: options.CreateStore = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
    tag: retention.Tags = None,
    retain_days: retention.RetainDays = None,
    retain_until: retention.RetainUntil = None,
    sign_with: trust.SignWith = None,
    sign_passphrase_file: trust.SignPassphrase = None,
    writer: trust.Writer = None,
    state_dir: trust.StateDir = None,
    recipient: key_options.RecipientTexts = None,
    recipients_file: key_options.RecipientsFiles = None,
    jobs: options.Jobs = None,
    split_tables: what.SplitTables = "auto",
    level: what.Level = "auto",
    transfers: options.Transfers = 4,
    memory: options.BackupMemory = parse_size(options.BACKUP_MEMORY_DEFAULT),
    spool_limit: what.SpoolLimit = parse_size(what.SPOOL_DEFAULT),
    object_size: what.ObjectSize = parse_size(what.OBJECT_DEFAULT),
    spool_dir: options.SpoolDir = None,
    limit_rate: options.LimitRate = None,
    nice: options.Nice = 0,
    lock_wait_timeout: what.LockWaitTimeout = 300,
    statement_timeout: what.StatementTimeout = 0,
    retries: what.Retries = 0,
    bin_dir: options.BinDir = None,
    dump_options: "Sequence[GivenOption]" = (),
) -> None:
    """Back up a database, or a whole server with --all-databases.

    pgstow dumps, compresses, checksums and uploads at the same time. Last, it writes the manifest, which makes the backup valid.
    """
    from pipeline.archive.destinations import committed
    from pipeline.backup.request import BackupRequest
    from pipeline.backup.retry import back_up_with_retries
    from pipeline.config import Labels
    from pipeline.errors import InvalidRequest
    from storage_backends import StorageError

    selection = what.make_selection(
        table,
        exclude_table,
        schema,
        exclude_schema,
        exclude_table_data,
        dump_options,
        schema_only=schema_only,
        data_only=data_only,
    )
    modes = {
        "--all-databases": all_databases,
        "--globals-only": globals_only,
        "--roles-only": roles_only,
        "--tablespaces-only": tablespaces_only,
    }
    chosen = [mode for mode, given in modes.items() if given]
    if len(chosen) > 1:
        raise InvalidRequest(f"{chosen[0]} and {chosen[1]} exclude each other: leave one out.")
    if chosen and (dry_run or not selection.is_all_tables or (selection.only and not all_databases)):
        raise InvalidRequest(
            f"{chosen[0]} backs up whole databases, and has no dry run: leave out --dry-run and the options that select a part of a database."
        )
    if chosen not in ([], ["--all-databases"]) and len(selection.of_cluster()) < len(selection.options):
        raise InvalidRequest(f"{chosen[0]} takes only options of pg_dumpall: leave out the other options of pg_dump.")
    if (exclude_database or at_once > 1) and not all_databases:
        raise InvalidRequest(
            "--exclude-database and --databases-at-once need --all-databases: add it, or leave them out."
        )
    if format_ != "directory" and (jobs or 1) > 1:
        raise InvalidRequest("pg_dump runs several jobs only in the directory format: leave out --jobs or --format.")
    if format_ != "directory" and split_tables != "auto":
        raise InvalidRequest("Only the directory format can split tables: leave out --split-tables or --format.")
    if format_ != "directory" and chosen not in ([], ["--all-databases"]):
        raise InvalidRequest(f"{chosen[0]} uses the format of pg_dumpall: leave out --format.")
    lock, labels = retention.lock_options(retain_days, retain_until), Labels(tuple(tag or ()))
    source = options.parse_conninfo(conninfo, quiet=quiet)
    request = BackupRequest(
        source=source,
        cluster=cluster,
        selection=selection,
        format=cast("Format", format_),
        level=level,
        limits=options.make_limits(
            jobs,
            transfers,
            memory,
            spool_dir,
            split_tables=split_tables,
            spool=spool_limit,
            object_size=object_size,
        ),
        programs=tuple(bin_dir or ()),
        lock_wait_timeout=lock_wait_timeout,
        statement_timeout=statement_timeout,
        labels=labels,
        signing=trust.make_signing(sign_with, sign_passphrase_file, writer, state_dir),
        recipients=key_options.read_recipients(recipient, recipients_file),
    )
    match chosen:
        case []:
            run: Callable[[Sequence[StorageBackend], Notify], BackupResults] = partial(
                back_up_with_retries, request, retries=retries
            )
        case ["--all-databases"]:
            from pipeline.cluster.backup import back_up_cluster
            from pipeline.cluster.request import ClusterRequest

            of_cluster = ClusterRequest(
                each=request,
                exclude=tuple(exclude_database or ()),
                role_passwords=not no_role_passwords,
                at_once=at_once,
                retries=retries,
            )
            run = partial(back_up_cluster, of_cluster)
        case _:
            from pipeline.cluster.globals import back_up_globals
            from pipeline.cluster.request import GlobalsRequest

            of_globals = GlobalsRequest(
                request,
                only="roles" if roles_only else "tablespaces" if tablespaces_only else None,
                role_passwords=not no_role_passwords,
                retries=retries,
            )
            run = partial(back_up_globals, of_globals)
    os.nice(nice)
    with ExitStack() as stack:
        stores = [
            stack.enter_context(closing(store))
            for store in options.open_stores(
                to, store_option, give_up_after, limit_rate, lock, create=create_store, quiet=quiet, lazily=True
            )
        ]
        urls = [store.url for store in stores]
        if dry_run:
            from pipeline.backup.dry_run import plan_backup

            _print_plan(plan_backup(request), " and ".join(urls), as_json=json)
            return
        started = time.monotonic()
        with if_stopped(UNFINISHED_BACKUP), show_progress(quiet=quiet or json) as notify:
            results = run(stores, notify)
    made = committed(results)[0].manifest
    with result_of(f"Backed up {made.cluster}/{made.database} as {made.backup_id}."):
        if json:
            _print_json(results, urls)
        else:
            _print(results, urls, time.monotonic() - started)
    if failures := [
        result for result in results if isinstance(result, StorageError)
    ]:  # each failure was reported when it happened
        raise typer.Exit(exit_code_of(failures[0]))


def _print_json(results: "BackupResults", urls: "Sequence[str]") -> None:
    """Print one document for one store, or a list of documents for several stores."""
    from pipeline.catalog.manifest import summarize
    from storage_backends import StorageError

    documents = [
        {"store": url, "problem": str(result)}
        if isinstance(result, StorageError)
        else {"store": url, **summarize(result.manifest)}
        for url, result in zip(urls, results, strict=True)
    ]
    display.print_json(documents if len(documents) > 1 else documents[0])


def _print(results: "BackupResults", urls: "Sequence[str]", seconds: float) -> None:
    from pipeline.archive.destinations import committed
    from storage_backends import StorageError

    manifest = committed(results)[0].manifest
    places = [url for url, result in zip(urls, results, strict=True) if not isinstance(result, StorageError)]
    totals = manifest.totals
    name = display.one_line(f"{manifest.cluster}/{manifest.database}")
    print(f"Backed up {name} as {manifest.backup_id} in {display.format_duration(seconds)}.")
    print(
        f"{counted(totals.rows, 'row')} in {counted(totals.tables, 'table')}; {display.format_size(totals.size)} dumped, "
        f"{display.format_size(totals.stored_size)} stored in {counted(totals.objects, 'object')} at {' and at '.join(places)}."
    )


def _print_plan(plan: "BackupPlan", url: str, *, as_json: bool) -> None:
    if as_json:
        display.print_json(dataclasses.asdict(plan))
        return
    total = display.format_size(sum(table.size for table in plan.tables))
    print(
        f"Would back up {display.one_line(f'{plan.cluster}/{plan.database}')} (PostgreSQL {plan.server_version}) to {url}"
    )
    print(
        f"with {plan.program.path} {plan.program.version}: {counted(len(plan.tables), 'table')}, about {total} on the server's disk,"
    )
    print(
        f"{'with' if plan.large_objects else 'without'} large objects, {counted(plan.entries, 'entry', 'entries')} in the archive. The largest:"
    )
    for table in plan.tables[:10]:
        print(f"  {display.format_size(table.size):>10}  {display.one_line(f'{table.schema}.{table.relation}')}")
