"""Prove a backup by restoring it: on a throwaway server, or into a scratch database on a server that the user names."""

import errno
import os
import secrets
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.archive.reader import Archive, open_archive
from pipeline.catalog.attestation import RestoreProof
from pipeline.catalog.find import BackupSelector
from pipeline.catalog.manifest import Manifest
from pipeline.concurrency import Workers
from pipeline.config import Limits, RestoreOptions
from pipeline.errors import (
    BackupDamaged,
    ConnectionFailed,
    DatabaseLeft,
    DumpFailed,
    InvalidRequest,
    LocalResourceExhausted,
    PipelineError,
    ProgramMissing,
    RestoreFailed,
)
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.encodings import ANY_BYTES
from pipeline.postgres.environment import without_servers
from pipeline.postgres.maintenance import maintenance_database
from pipeline.postgres.os_user import keep_out_same_user
from pipeline.postgres.prerequisites import (
    make_roles,
    make_tablespaces,
    missing_extensions,
    missing_roles,
    named_extensions,
    named_roles,
)
from pipeline.postgres.programs import major_of, speaks_to
from pipeline.postgres.scratch import scratch_database
from pipeline.postgres.server import Server
from pipeline.postgres.shortage import is_shortage
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.restore.database import Restored, restore_manifest
from pipeline.restore.request import RestoreRequest
from pipeline.verify.content import check_comparable, compare_content
from pipeline.verify.views import compare_views
from storage_backends import StorageBackend

_SETTINGS = {"wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}
"""Settings of a throwaway server. Rows that are loaded into a new table aren't written to the write-ahead log as well."""
_LONGEST = 100  # characters of a value in a sentence
_NO_FILE = "/dev/null/none"  # can't exist


@dataclass(frozen=True, slots=True)
class Assertion:
    """SQL that must hold in the restored database: each statement returns one row with one value, true."""

    name: str
    """The name in sentences and in the attestation."""
    sql: str


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """Where to restore a backup to prove it, and what to check then."""

    scratch: Conninfo | None = None
    """The server on which to make and drop a scratch database; None for a throwaway server."""
    checksums: bool = False
    """Compare the content of each table with the archive."""
    assertions: Sequence[Assertion] = ()
    """SQL to check in the restored database."""


@dataclass(slots=True)
class Proof:
    """The result of restoring a backup."""

    problems: list[str] = field(default_factory=list)
    """One sentence for each thing that is wrong."""
    restored: Restored | None = None
    """What was restored; None if the backup could not be restored."""
    compared: int | None = None
    """The number of tables whose content was compared; None if none was to be compared."""
    assertions: tuple[str, ...] = ()
    """The names of the assertions that were checked."""
    hindrance: PipelineError | None = None
    """Why the backup could not be tried to the end, if the reason is no evidence against the backup; None if it was."""
    left: DatabaseLeft | None = None
    """Why the scratch server still has the database; None if the database is gone."""

    def describe(self) -> RestoreProof | None:
        """Return the result in the form of an attestation; None if the backup could not be restored."""
        if (restored := self.restored) is None:
            return None
        return RestoreProof(
            server_version=restored.server_version,
            pg_restore_version=restored.program.version,
            tables=restored.tables,
            rows=restored.rows,
            compared=self.compared,
            assertions=list(self.assertions),
        )


def prove(
    manifest: Manifest,
    request: ProofRequest,
    store: StorageBackend,
    limits: Limits,
    programs: Sequence[Path],
    notify: Notify,
) -> Proof:
    """Restore a backup of a database, check the result, and remove it again. Return what was found.

    If the backup can't be restored, the result names the problem. A missing server, role, extension or disk is no evidence against the
    backup: it raises PipelineError, or becomes the result's ``hindrance`` if the restore had begun. If the scratch database can't be
    dropped, the result's ``left`` says so.

    ``programs`` are folders in which to look for PostgreSQL's programs; empty for the usual folders. Raises InvalidRequest if
    ``request.checksums`` is true and the manifest is too old for a comparison, another PipelineError if the backup can't be tried, or
    StorageError.
    """
    if request.checksums:
        check_comparable(manifest)
    proof = Proof()
    try:
        with Workers() as workers:
            archive = open_archive(store, manifest, workers, limits)
    except (BackupDamaged, DumpFailed) as exc:
        proof.problems.append(str(exc))
        return proof
    place = _scratch(request.scratch, archive, notify) if request.scratch else _throwaway(archive, limits, programs)
    with _note_what_is_left(proof), place as target:
        restoring = RestoreRequest(
            wanted=BackupSelector(manifest.backup_id, manifest.cluster, manifest.database),
            target=target,
            create=True,
            options=_options(archive, notify),
            database_tablespace=False,
            check_files=True,
            limits=limits,
            programs=programs,
        )
        try:
            proof.restored = restore_manifest(manifest, restoring, store, notify)
        except BackupDamaged as exc:
            proof.problems.append(str(exc))
            return proof
        except RestoreFailed as exc:
            _check_server(target, exc)
            if _is_shortage(exc, archive, target):
                proof.hindrance = _hindrance(exc, scratch=request.scratch is not None)
                return proof
            if request.scratch and archive.format == "plain" and "default_tablespace" in str(exc):
                raise InvalidRequest(f"The script names a tablespace that the scratch server lacks. {exc}") from exc
            partly = " The backup is of a part of the database, which may need what was left out."
            proof.problems.append(f"{exc}{partly if manifest.dump.partial else ''}")
            return proof
        if request.checksums:
            comparison = compare_content(target, archive, store, limits, notify, programs)
            proof.compared = comparison.compared
            proof.problems += comparison.problems
            proof.problems += compare_views(target, archive, notify)
        for assertion in request.assertions:
            notify(Started(f"Checking {assertion.name}"))
            proof.problems += _check(assertion, target)
        proof.assertions = tuple(assertion.name for assertion in request.assertions)
    return proof


@contextmanager
def _note_what_is_left(proof: Proof) -> Iterator[None]:
    """Put DatabaseLeft into the result instead of raising it: the proof still holds."""
    try:
        yield
    except DatabaseLeft as exc:
        proof.left = exc


def _options(archive: Archive, notify: Notify) -> RestoreOptions:
    """Return how to restore for a proof: without tablespaces, and without subscriptions, which know other servers and their slots."""
    if archive.format == "plain":  # its SQL makes subscriptions that neither connect nor are enabled
        return RestoreOptions()
    tags = [entry.tag for entry in archive.toc.entries if entry.description == "SUBSCRIPTION"]
    # A pg_restore from before August 2025 leaves out subscriptions, but not the comments on them, and fails.
    leave_out = bool(tags) and not any(entry.tag.startswith("SUBSCRIPTION ") for entry in archive.toc.entries)
    if leave_out:
        notify(Notice(f"Subscriptions aren't restored for a proof: {', '.join(tags)}."))
    return RestoreOptions(no_tablespaces=True, no_subscriptions=leave_out)


def _is_shortage(failure: RestoreFailed, archive: Archive, target: Conninfo) -> bool:
    """True if the server lacks something that no backup holds. Raises ConnectionFailed."""
    # pgstow's own session makes the database's settings, which depend on locales and libraries.
    if isinstance(failure.__cause__, ConnectionFailed):
        return True
    versions = {extension.name: extension.version for extension in archive.manifest.source.extensions}
    with Server(maintenance_database(target)) as server:
        return is_shortage(str(failure), failure.refused, archive.toc, versions, server)


def _hindrance(failure: RestoreFailed, *, scratch: bool) -> PipelineError:
    """Return the failure as an error that blames the server, and is no evidence against the backup."""
    if scratch:
        return InvalidRequest(
            "The scratch server lacks something that the backup needs, which says nothing about the backup. "
            f"{failure} Install what is missing there, or grant the right."
        )
    return ProgramMissing(
        "PostgreSQL on this machine lacks something that the backup needs, which says nothing about the backup. "
        f"{failure} Install what is missing, or use --scratch with a server that has everything, rights of roles included."
    )


def _check_server(target: Conninfo, failure: Exception) -> None:
    """Raise PipelineError if the server or this machine caused the failure: such a failure is no evidence against the backup."""
    if os.strerror(errno.ENOSPC) in str(failure):
        raise LocalResourceExhausted(f"The server's disk is full. {failure}") from failure
    if "killed by signal" in str(failure):
        raise failure
    maintenance_database(target)


def _check(assertion: Assertion, target: Conninfo) -> list[str]:
    """Return a sentence for each statement of the assertion that fails or doesn't hold. Raises ConnectionFailed."""
    with Server(target, users_settings=True) as server:
        try:
            results = server.run_script(assertion.sql)
        except InvalidRequest as exc:
            return [f"The assertion {assertion.name} fails: {exc}"]
    return [
        f"The assertion {assertion.name} doesn't hold{f' (statement {number})' if len(results) > 1 else ''}: {_returned(rows)}, "
        "where one row with one value, true, was wanted."
        for number, rows in enumerate(results, 1)
        if not (len(rows) == 1 and len(rows[0]) == 1 and rows[0][0] is True)
    ]


def _returned(rows: Sequence[tuple[object, ...]]) -> str:
    if len(rows) == 1 and len(rows[0]) == 1:
        return f"it returned {textwrap.shorten(str(rows[0][0]), _LONGEST, placeholder=' …')}"
    return f"it returned {len(rows)} rows of {len(rows[0]) if rows else 0} values"


def _needed(archive: Archive) -> tuple[set[str], set[str]]:
    """Return the roles and extensions that the archive names. A script has no table of contents, so return all that it may name."""
    if archive.format == "plain":
        source = archive.manifest.source
        return set(source.roles), {extension.name for extension in source.extensions}
    return named_roles(archive.toc), named_extensions(archive.toc)


def _superusers(archive: Archive) -> Sequence[str]:
    """Return the superusers that a script may name. A manifest older than version 1.2 doesn't list them, so return all its roles."""
    source = archive.manifest.source
    return source.superusers if "superusers" in source.model_fields_set else source.roles


@contextmanager
def _scratch(scratch: Conninfo, archive: Archive, notify: Notify) -> Iterator[Conninfo]:
    """Yield a name for a new database on the scratch server, and drop the database at the end.

    Raises InvalidRequest if the server lacks roles or extensions that the archive needs, ConnectionFailed, or DatabaseLeft.
    """
    roles, extensions = _needed(archive)
    with Server(maintenance_database(scratch)) as server:
        if lacking := missing_roles(server, roles):
            raise InvalidRequest(
                f"The scratch server lacks roles that the backup's owners and grants name: {', '.join(lacking)}. Make them there "
                "(pg_dumpall --roles-only prints how), or verify without --scratch."
            )
        if lacking := missing_extensions(server, extensions):
            raise InvalidRequest(
                f"The scratch server lacks the backup's extensions: {', '.join(lacking)}. Install them."
            )
    with scratch_database(_in_english(scratch), "proof", notify) as target:
        yield target


def _in_english(server: Conninfo) -> Conninfo:
    """Return the same server, with messages in English if the role may choose. A database may set any language."""
    english = server.with_setting("lc_messages", "C")
    try:
        maintenance_database(english)
    except ConnectionFailed:
        return server
    return english


@contextmanager
def _throwaway(archive: Archive, limits: Limits, programs: Sequence[Path]) -> Iterator[Conninfo]:
    """Yield a name for a new database on a throwaway server that has the archive's roles, and the tablespaces that a script may name.

    Raises ProgramMissing if extensions are missing, or LocalResourceExhausted if the server fails.
    """
    roles, extensions = _needed(archive)
    major = _fitting_major(archive.manifest)
    keep_out_same_user()  # code of the backup may run as the same user, and pgstow's environment holds the store's keys
    with (
        without_servers(),
        ThrowawayCluster(
            at_least_major=major,
            search=programs,
            settings=_SETTINGS,
            directory=limits.spool_parent,
            encoding=ANY_BYTES if archive.manifest.source.encoding == ANY_BYTES else "UTF8",
            # No other server knows this role. So an attacker gains nothing by replacing this server's socket with another server's.
            superuser=f"pgstow_{secrets.token_hex(8)}",
            offline=True,
        ) as cluster,
    ):
        # Code of the backup may answer in the place of this server. It must not receive a password of another server.
        own = Conninfo.parse(f"{cluster.conninfo()} passfile={_NO_FILE}").with_setting("lc_messages", "C")
        try:
            with Server(own) as server:
                if lacking := missing_extensions(server, extensions):
                    raise ProgramMissing(
                        f"PostgreSQL {cluster.major} on this machine lacks the backup's extensions: {', '.join(lacking)}. Install them, or "
                        "name a server that has them with --scratch."
                    )
                make_roles(server, missing_roles(server, roles), archive.toc, _superusers(archive))
                make_tablespaces(server, archive.manifest.source.tablespaces, cluster.make_folder)
            yield own.with_database("pgstow_proof")
        except ConnectionFailed as exc:
            raise LocalResourceExhausted(
                f"The throwaway server failed, which says nothing about the backup. {exc} Name another server with --scratch."
            ) from exc


def _fitting_major(manifest: Manifest) -> int:
    """Return the lowest major version, but at least the backed-up server's, that takes a restore by a pg_restore that reads the archive."""
    dumped_from, dumped_by = major_of(manifest.source.server_version), major_of(manifest.source.pg_dump_version)
    return next((major for major in range(dumped_from, dumped_by) if speaks_to(dumped_by, major)), dumped_by)
