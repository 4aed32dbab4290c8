"""Writes a backup as a script for psql, or as the archive that pg_dump wrote. No server is needed."""

import errno
import os
import select
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from tarfile import BLOCKSIZE
from typing import BinaryIO

from pipeline.archive.reader import check_format, dump_format, open_archive
from pipeline.archive.selection import EntrySelection, tell_lost
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.key_objects import open_seal, tell_unneeded
from pipeline.catalog.manifest import TOC_NAME, File, Manifest
from pipeline.catalog.origin import Format
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import InvalidRequest, LocalResourceExhausted, RestoreFailed
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.loading import money_setting
from pipeline.postgres.partitions import attachments_left_out, tell_alone
from pipeline.postgres.pg_restore import PgRestore
from pipeline.postgres.programs import major_of
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.workspace import Workspace
from pipeline.restore.compatibility import find_pg_restore
from pipeline.restore.extract import where_it_lies
from pipeline.restore.steps import whole
from pipeline.restore.supervise import Watch, supervise
from pipeline.stages.download import ObjectReader, tell_replaced
from pipeline.stages.feed import Feed, Stream
from pipeline.stages.pack import tar_header
from pipeline.trust.seal import Keys
from storage_backends import StorageBackend

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A backup to export, and how."""

    wanted: BackupSelector
    format: Format = "plain"
    """``plain`` for a script, or the backup's own format for the archive as pg_dump wrote it."""
    choice: EntrySelection = field(default_factory=EntrySelection)
    options: RestoreOptions = field(default_factory=RestoreOptions)
    create: bool = False
    """True if the script makes the database, under its old name."""
    limits: Limits = field(default_factory=Limits)
    keys: Keys = field(default_factory=Keys)
    """The keys that open sealed backups."""
    programs: Sequence[Path] = ()
    """Folders in which to look for PostgreSQL's programs; empty for the usual folders."""

    @property
    def is_as_dumped(self) -> bool:
        """True if the request chooses no entries and changes nothing."""
        return self.choice.is_all and self.options == RestoreOptions() and not self.create


def export(request: ExportRequest, store: StorageBackend, output: BinaryIO, notify: Notify) -> Manifest:
    """Write the backup to ``output`` in the requested format. Return its manifest.

    If the backup has the requested format, it is written as it was dumped; an archive of the directory format becomes a tar stream of its
    folder. Otherwise pg_restore makes a script from the archive. Every object is checked before any of its bytes is used. After a failure,
    ``output`` has only a part of the backup.

    Raises InvalidRequest if the backup doesn't have the format or can't be changed as requested, another PipelineError, StorageError, or
    OSError if ``output`` can't be written.
    """
    manifest = find_backup(store, request.wanted, notify)
    tell_unneeded(manifest, request.keys, notify)
    format_ = dump_format(manifest)
    if request.format != "plain":
        check_format(manifest, request.format)
    as_stored = request.format == format_ and not manifest.members
    if as_stored and not request.is_as_dumped:
        raise InvalidRequest(
            f"{manifest.backup_id} already has the format {format_}, so pgstow writes it unchanged: leave out the options that would change it."
        )
    with Workers() as workers:
        if as_stored:
            seal = open_seal(store, manifest, request.keys)
            reader = ObjectReader(store, manifest.objects, manifest.files, workers, request.limits, seal)
            notify(Started(f"Writing {manifest.database} in the format {format_}"))
            (_write_folder if format_ == "directory" else _write_file)(manifest.files, reader, output)
            tell_replaced(reader.replaced, notify)
        else:
            _write_script(request, manifest, store, output, workers, notify)
    return manifest


def _write_file(files: Sequence[File], reader: ObjectReader, output: BinaryIO) -> None:
    for file in files:
        output.writelines(reader.read_checked(file))


def _write_folder(files: Sequence[File], reader: ObjectReader, output: BinaryIO) -> None:
    """Write a tar stream of the archive's folder. ``toc.dat`` comes last, so that pg_restore can't read a folder from a cut stream."""
    for file in sorted(files, key=lambda file: (file.path == TOC_NAME, where_it_lies(file))):
        output.write(tar_header(file.path, file.size))
        _write_file([file], reader, output)
        output.write(bytes(-file.size % BLOCKSIZE))
    output.write(bytes(2 * BLOCKSIZE))


def _write_script(
    request: ExportRequest,
    manifest: Manifest,
    store: StorageBackend,
    output: BinaryIO,
    workers: Workers,
    notify: Notify,
) -> None:
    limits = request.limits
    archive = open_archive(store, manifest, request.keys, workers, limits)
    chosen = archive.choose(request.choice)
    if request.options.makes_tables:
        tell_alone(attachments_left_out(archive.toc, chosen or ()), notify)
        tell_lost(request.choice.lost(archive.toc), notify)
    files = archive.files_of(chosen) if request.options.loads_data or archive.is_stream else []
    dumped_by = manifest.source.pg_dump_version
    program = find_pg_restore(major_of(dumped_by), request.options, request.programs)
    reader = ObjectReader(store, manifest.objects, files, workers, limits, archive.seal)
    notify(Started(f"Writing a script of {manifest.database} with pg_restore {program.version}"))
    if (locale := money_setting(manifest.source)) and archive.uses_money(chosen):
        if request.create:  # the script connects again, which would undo an earlier SET
            options = quote(f"-c lc_monetary={locale}")
            notify(
                Notice(
                    f"Run the script with PGOPTIONS={options}: the script has values of the type money in this locale."
                )
            )
        else:
            quoted = locale.replace("'", "''")
            output.write(f"SET lc_monetary = '{quoted}';\n\n".encode())
            output.flush()
    stream = Stream(tuple(files), may_be_left=True) if archive.is_stream else whole(archive, chosen, request.options)
    with closing(Feed([stream], reader, workers)) as feed, Workspace(limits.spool_parent) as workspace:
        with feed.pipe(0) as (path, inherit):
            scripting = PgRestore.into_script(
                program,
                workspace,
                path,
                archive.format if archive.is_stream else "custom",
                output.fileno(),
                create=request.create,
                dump_ids=chosen if archive.is_stream else None,
                options=request.options,
                inherit=inherit,
            )
        try:
            supervise([scripting], feed, Watch(None, reader, sum(file.size for file in stream.files), workers, notify))
        except RestoreFailed as exc:
            if _is_unread(output):
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from exc
            if any(os.strerror(reason) in str(exc) for reason in _NO_ROOM):
                raise LocalResourceExhausted(f"The script could not be written. {exc}") from exc
            raise
    tell_replaced((*archive.replaced, *reader.replaced), notify)


def _is_unread(output: BinaryIO) -> bool:
    """True if the output is a pipe whose reader has closed it."""
    pipe = select.poll()
    pipe.register(output, 0)  # report only errors
    return bool(pipe.poll(0))
