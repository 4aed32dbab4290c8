"""Proves a backup by restoring it: on a throwaway server, or into a scratch database on a server that the user names."""

import errno
import os
import re
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
from pipeline.config import Limits
from pipeline.counting import counted
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
from pipeline.postgres.maintenance import maintenance_database
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.server import Server
from pipeline.postgres.shortage import is_shortage
from pipeline.restore.database import Restored, restore_archive
from pipeline.restore.request import RestoreRequest
from pipeline.trust.seal import Keys
from pipeline.verify.content import check_comparable, compare_content
from pipeline.verify.proving_server import on_own_server, on_scratch_server
from pipeline.verify.views import compare_views
from storage_backends import StorageBackend

_LONGEST = 100  # characters of a value in a sentence

_SHORT_WRITE = re.compile(r"wrote only \d+ of \d+ bytes")
"""PostgreSQL's message if only a part of a block fits on the disk (``mdextend`` in md.c)."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """SQL that must hold in the restored database: each statement must return one row with one value, true."""

    name: str
    """The name in sentences and in the attestation."""
    sql: str


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """Where to restore a backup for its proof, and what to check afterwards."""

    scratch: Conninfo | None = None
    """The server on which to make and drop a scratch database; None for a throwaway server."""
    checksums: bool = False
    """Compare the content of each table with the archive."""
    assertions: Sequence[Assertion] = ()
    """SQL to check in the restored database."""
    server_settings: bool = False
    """As for a restore (:attr:`RestoreRequest.server_settings`)."""


@dataclass(slots=True)
class Proof:
    """The result of restoring a backup."""

    problems: list[str] = field(default_factory=list)
    """One sentence for each problem."""
    archive: Archive | None = None
    """The backup's archive; None if it could not be opened."""
    restored: Restored | None = None
    """The result of the restore; None if the backup could not be restored."""
    compared: int | None = None
    """The number of tables whose content was compared; None if the request asks for no comparison."""
    assertions: tuple[str, ...] = ()
    """The names of the assertions that were checked."""
    hindrance: PipelineError | None = None
    """The error that ended the restore, if it is no evidence against the backup; None if there was no such error."""
    left: DatabaseLeft | None = None
    """The error that kept pgstow from dropping the scratch database; None if there was no such error."""

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
    keys: Keys,
    store: StorageBackend,
    limits: Limits,
    programs: Sequence[Path],
    notify: Notify,
) -> Proof:
    """Restore a backup of a database, check the restored database, and drop it. Return the result.

    - If the backup can't be restored, the result names the problem.
    - If the server or this machine is at fault, this is no evidence against the backup. If the restore fails because the server lacks
      something that no backup contains, set the result's ``hindrance``. Otherwise, raise PipelineError.
    - If the scratch database can't be dropped, set the result's ``left``.

    ``keys`` open a sealed backup. ``programs`` has the folders in which to look for PostgreSQL's programs; empty for the usual folders.
    Raises InvalidRequest if no key fits, or if ``request.checksums`` is true but the manifest is too old for a comparison. Raises another
    PipelineError if the server or this machine is at fault, and StorageError.
    """
    if request.checksums:
        check_comparable(manifest)
    proof = Proof()
    try:
        with Workers() as workers:
            archive = proof.archive = open_archive(store, manifest, keys, workers, limits)
    except (BackupDamaged, DumpFailed) as exc:
        proof.problems.append(str(exc))
        return proof
    place = (
        on_scratch_server(request.scratch, archive, notify)
        if request.scratch
        else on_own_server(archive, limits, programs)
    )
    with _note_what_is_left(proof), place as target:
        restoring = RestoreRequest(
            wanted=BackupSelector(manifest.backup_id, manifest.cluster, manifest.database),
            target=target,
            create=True,
            options=_options(archive, notify),
            database_tablespace=False,
            server_settings=request.server_settings,
            check_files=True,
            limits=limits,
            programs=programs,
        )
        try:
            proof.restored = restore_archive(archive, restoring, store, notify)
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
            partly = " The backup has only a part of the database, and this part may need objects that were left out."
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
    """Put DatabaseLeft into the result instead of raising it, because the proof is still valid."""
    try:
        yield
    except DatabaseLeft as exc:
        proof.left = exc


def _options(archive: Archive, notify: Notify) -> RestoreOptions:
    """Return the options for a proof. It restores no tablespaces, and no subscriptions, which name other servers and their slots."""
    if archive.format == "plain":  # its SQL makes only disabled subscriptions, which don't connect
        return RestoreOptions()
    tags = [entry.tag for entry in archive.toc.entries if entry.description == "SUBSCRIPTION"]
    # Without subscriptions, a pg_restore from before August 2025 still restores the comments on them, and fails.
    leave_out = bool(tags) and not any(entry.tag.startswith("SUBSCRIPTION ") for entry in archive.toc.entries)
    if leave_out:
        notify(Notice(f"Subscriptions aren't restored for a proof: {', '.join(tags)}."))
    return RestoreOptions(no_tablespaces=True, no_subscriptions=leave_out)


def _is_shortage(failure: RestoreFailed, archive: Archive, target: Conninfo) -> bool:
    """True if the server lacks something that no backup contains. Raises ConnectionFailed."""
    # pgstow applies the database's settings in its own session. The server refuses a setting if it lacks the locale or library for it.
    if isinstance(failure.__cause__, ConnectionFailed):
        return True
    versions = {extension.name: extension.version for extension in archive.manifest.source.extensions}
    with Server(maintenance_database(target)) as server:
        return is_shortage(str(failure), failure.refused, archive.toc, versions, server)


def _hindrance(failure: RestoreFailed, *, scratch: bool) -> PipelineError:
    """Return the failure as an error that blames the server, and is no evidence against the backup."""
    if scratch:
        return InvalidRequest(
            "The scratch server lacks something that the backup needs. This is no evidence against the backup. "
            f"{failure} Install the missing part there, or grant the missing right."
        )
    return ProgramMissing(
        "PostgreSQL on this machine lacks something that the backup needs. This is no evidence against the backup. "
        f"{failure} Install the missing part, or use --scratch with a server that has everything, including the rights of roles."
    )


def _check_server(target: Conninfo, failure: Exception) -> None:
    """Raise PipelineError if the server or this machine caused the failure, because this is no evidence against the backup."""
    if os.strerror(errno.ENOSPC) in str(failure) or _SHORT_WRITE.search(str(failure)):
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
        f"The assertion {assertion.name} doesn't hold{f' (statement {number})' if len(results) > 1 else ''}: {_returned(rows)} "
        "instead of one row with one value, true."
        for number, rows in enumerate(results, 1)
        if not (len(rows) == 1 and len(rows[0]) == 1 and rows[0][0] is True)
    ]


def _returned(rows: Sequence[tuple[object, ...]]) -> str:
    if len(rows) == 1 and len(rows[0]) == 1:
        return f"it returned {textwrap.shorten(str(rows[0][0]), _LONGEST, placeholder=' …')}"
    return f"it returned {counted(len(rows), 'row')} of {counted(len(rows[0]) if rows else 0, 'value')}"
