"""Backs up a whole server as one script of pg_dumpall, and restores the script onto a new server."""

from collections.abc import Collection, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.archive.destinations import BackupResults
from pipeline.archive.reader import single_file
from pipeline.archive.single_file import describe_stream
from pipeline.backup.in_progress import BackupInProgress, ManifestDraft
from pipeline.backup.request import BackupRequest
from pipeline.backup.source import describe_source, find_dumper
from pipeline.catalog.key_objects import open_seal, tell_unneeded
from pipeline.catalog.keys import CLUSTER
from pipeline.catalog.manifest import Manifest, TableData
from pipeline.catalog.origin import DumpOptions
from pipeline.cluster.dumpall import decide_passwords, dump_all
from pipeline.cluster.request import ServerTarget
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.errors import DumpFailed, PipelineError
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.fast_sessions import fast_sessions
from pipeline.postgres.lasting_tables import lasting_tables, oldest_transaction
from pipeline.postgres.loading import has_money, session_default, with_dump_settings, writes_money_alike
from pipeline.postgres.locks import LockWatch, backup_lock
from pipeline.postgres.maintenance import make_usual_database
from pipeline.postgres.programs import major_of
from pipeline.postgres.psql import Psql, ScriptError
from pipeline.postgres.restricted_mode import RestrictedMode, find_psql
from pipeline.postgres.server import Server
from pipeline.postgres.unlogged import describe_left_out, unlogged_left_out
from pipeline.postgres.workspace import Workspace
from pipeline.restore.rows import check_rows
from pipeline.restore.supervise import Watch, supervise
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed, Stream
from storage_backends import StorageBackend, StorageError

CLUSTER_SCRIPT = "cluster.sql"
ON_EVERY_SERVER = frozenset({"postgres", "template1"})


def back_up_cluster_script(
    each: BackupRequest,
    databases: Sequence[str],
    exclude: Sequence[str],
    stores: Sequence[StorageBackend],
    notify: Notify,
    *,
    role_passwords: bool,
) -> BackupResults:
    """Dump globals and ``databases`` into one script, and commit the backup in all stores.

    Return each store's result. ``exclude`` has patterns that match the server's other databases. Without ``role_passwords``,
    the script has no password hashes.

    Raises BackupRunning if another backup holds the lock of the session's database, and DumpFailed if the script lacks a table's data. Also
    raises another PipelineError, or StorageError if all stores fail.
    """
    with Server(each.source) as server:
        backup = BackupInProgress.begin(each, server, CLUSTER, stores, notify)
        with backup_lock(server, backup.session_name):
            program = find_dumper("pg_dumpall", server, each)
            source, taken_at = (
                describe_source(server, program, None, each.selection, for_script=True),
                datetime.now(UTC),
            )
            only, passwords = each.selection.only, decide_passwords(server, notify, wanted=role_passwords)
            notify(Started(f"Dumping {counted(len(databases), 'database')} with pg_dumpall {program.version}"))
            since = oldest_transaction(server)
            with backup.dump_context(server, program) as context:
                arguments = [f"--{only}-only"] if only else []
                arguments += each.selection.arguments_of_cluster()
                arguments += [f"--exclude-database={pattern}" for pattern in exclude]
                tables = dump_all(CLUSTER_SCRIPT, arguments, context, role_passwords=passwords)
                found = [_look_into(each, name, since) for name in databases]
                _check_tables(tables, found, only)
                backup.ended("dump")
                files = describe_stream(context.writer.finish())
            backup.ended("upload_after_dump")
            source = source.model_copy(update={"lc_monetary": _money_locale(found, notify)})
            unlogged = [name for one in found for name in one.unlogged_left_out]
            if unlogged:
                notify(Notice(describe_left_out(unlogged)))
            options = DumpOptions(
                format="script",
                jobs=1,
                only=only,
                role_passwords=passwords,
                databases=list(databases),
                exclude_databases=list(exclude),
                options=list(map(str, each.selection.options)),
                unlogged_left_out=unlogged,
            )
            return backup.commit(ManifestDraft("cluster", taken_at, source, options, files, tables))


def restore_cluster_script(
    cluster_manifest: Manifest, target: ServerTarget, store: StorageBackend, notify: Notify
) -> None:
    """Run the script with psql on a server that has none of the script's databases, and check the rows. psql begins in the target's database.

    Roles and tablespaces that exist already are skipped. psql ends at the first other error. After a failure, the restored databases stay.

    Raises RestoreFailed if psql or the check of rows fails, BackupDamaged, another PipelineError, or StorageError.
    """
    limits = target.limits
    single_file(cluster_manifest)
    tell_unneeded(cluster_manifest, target.keys, notify)
    seal = open_seal(store, cluster_manifest, target.keys)
    for name in sorted(ON_EVERY_SERVER.intersection(cluster_manifest.dump.databases)):
        make_usual_database(target.server, name)
    with Workers() as workers, Workspace(limits.spool_parent) as workspace, Server(target.server) as server:
        least = max(server.major, major_of(cluster_manifest.source.pg_dump_version))
        program = find_psql(at_least_major=least, search=target.programs)
        notify(
            Started(
                f"Restoring {counted(len(cluster_manifest.dump.databases), 'database')} with psql {program.version}"
            )
        )
        reader = ObjectReader(store, cluster_manifest.objects, cluster_manifest.files, workers, limits, seal)
        restricted = RestrictedMode(
            cluster_manifest.dump.databases, _stored_names(server) - {name.encode() for name in ON_EVERY_SERVER}
        )
        # Options of the connection win over the settings that the script gives its databases. psql keeps the options when it reconnects.
        loading = with_dump_settings(target.server, cluster_manifest.source, money=True)
        loading = loading.with_setting("default_transaction_read_only", "off").with_setting("array_nulls", "on")
        fast = nullcontext(loading) if target.server_settings else fast_sessions(loading, server, jobs=1)
        feed = Feed([Stream(tuple(cluster_manifest.files))], reader, workers, through=restricted.of)
        try:
            with closing(feed), fast as session:
                name = f"pgstow {cluster_manifest.backup_id}"
                connection = session.for_program(workspace, name)
                with feed.pipe(0) as (path, inherit):
                    run = Psql(
                        program,
                        connection,
                        workspace,
                        path,
                        restricted,
                        unset=session.overrides,
                        inherit=inherit,
                        passes=_is_of_the_cluster,
                    )
                locks = LockWatch(server, name, target.lock_wait_timeout, everywhere=True)
                supervise([run], feed, Watch(server, reader, cluster_manifest.totals.size, workers, notify, locks))
            notify(Started("Counting rows"))
            for database in cluster_manifest.dump.databases:
                tables = [table for table in cluster_manifest.tables if table.database == database]
                check_rows(target.server.with_database(database), tables, workers, limits.jobs, notify)
        except (PipelineError, StorageError) as exc:
            raise type(exc)(f"{exc} The server may hold a part of the backup now.") from exc


def _stored_names(server: Server) -> set[bytes]:
    """Return the names of the server's databases as the bytes that the server stores."""
    return {
        name
        for (name,) in server.fetch(
            "SELECT pg_catalog.convert_to(datname::pg_catalog.text, pg_catalog.getdatabaseencoding()) FROM pg_catalog.pg_database"
        )
    }


@dataclass(frozen=True, slots=True)
class _Database:
    """Facts about one database that the script doesn't hold."""

    name: str
    lc_monetary: str | None
    """The locale in which the database writes money; None if it doesn't use the type money."""
    unlogged_left_out: Sequence[str]
    lasting: Collection[tuple[str, str]]
    """Schema and name of tables that existed during the whole dump."""


def _look_into(each: BackupRequest, name: str, since: int) -> _Database:
    with Server(each.source.with_database(name)) as server:
        locale = session_default(server, "lc_monetary") if has_money(server) else None
        unlogged = [f"{name}.{one}" for one in unlogged_left_out(server, each.selection)]
        return _Database(
            name,
            locale,
            unlogged,
            lasting_tables(server, since, unlogged=not each.selection.has("--no-unlogged-table-data")),
        )


def _check_tables(tables: Sequence[TableData], databases: Sequence[_Database], only: str | None) -> None:
    """Raise DumpFailed if the script has data of an unknown database, or lacks the data of a table that existed during the whole dump."""
    if unknown := {table.database or "" for table in tables} - {database.name for database in databases}:
        raise DumpFailed(f"pg_dumpall's script has data of {min(unknown)!r}, which is not a database to back up.")
    if only == "schema":
        return
    come = {(table.database, table.schema_name, table.relation) for table in tables}
    wanted = {(database.name, *table) for database in databases for table in database.lasting}
    if missing := min(wanted - come, default=None):
        raise DumpFailed(f"pg_dumpall's script lacks the data of {'.'.join(missing)}.")


def _money_locale(databases: Sequence[_Database], notify: Notify) -> str | None:
    """Return the locale in which all databases write money; None if no database uses the type money.

    If the locales differ, notify the user and return None.
    """
    locales = {one.name: one.lc_monetary for one in databases if one.lc_monetary is not None}
    first = next(iter(locales.items()), None)
    if first is None:
        return None
    other = next((one for one in locales.items() if not writes_money_alike(one[1], first[1])), None)
    if other is None:
        return first[1]
    notify(
        Notice(
            f"The databases write money in several locales ({first[0]}: {first[1]}, {other[0]}: {other[1]}), but one script can record only "
            "one locale. Restore it only onto a server with the same lc_monetary as this server, or back up in another format."
        )
    )
    return None


def _is_of_the_cluster(error: ScriptError) -> bool:
    """True if the error says that a role or a tablespace exists already. Errors about objects in databases have the same SQLSTATE."""
    return error.is_presence and error.statement.startswith(("CREATE ROLE ", "CREATE TABLESPACE "))
