"""``pgstow export``."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast

import typer

from cli import options
from cli.errors import Stopped
from cli.progress import show_progress
from cli.restore_options import with_restore_options
from pipeline.archive.selection import EntrySelection
from pipeline.postgres.restore_options import RestoreOptions

if TYPE_CHECKING:
    from pipeline.catalog.manifest import Format

_STANDARD_OUTPUT = 1  # its descriptor


@with_restore_options
def export(
    backup: options.BackupId = "latest",
    *,
    from_: options.From,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300.0,
    cluster: options.Cluster = None,
    database: options.Database = None,
    at: options.At = None,
    partial: options.Partial = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Where to write it; standard output by default",
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            "-F",
            metavar="FORMAT",
            parser=options.parse_format,
            help="plain, or the backup's own for the archive as it was dumped: directory (as a tar of the folder), custom or tar",
        ),
    ] = "plain",
    create: Annotated[bool, typer.Option("--create", "-C", help="Have the script make the database")] = False,
    choice: EntrySelection,
    how: RestoreOptions,
    transfers: options.Transfers = 4,
    memory: options.Memory = options.parse_size(options.MEMORY_DEFAULT),
    spool_dir: options.SpoolDir = None,
    bin_dir: options.BinDir = None,
    quiet: options.Quiet = False,
) -> None:
    """Turn a backup into an SQL script for psql, or into the archive that was dumped. Every object is checked before a byte of it is used."""
    from pipeline.catalog.find import BackupSelector
    from pipeline.errors import InvalidRequest
    from pipeline.restore.export import ExportRequest
    from pipeline.restore.export import export as export_backup

    request = ExportRequest(
        wanted=BackupSelector(backup=backup, cluster=cluster, database=database, at=at, partial=partial),
        format=cast("Format", format_),
        choice=choice,
        options=how,
        create=create,
        limits=options.make_limits(1, transfers, memory, spool_dir),
        programs=tuple(bin_dir or ()),
    )
    if format_ == "directory" and file is not None:
        raise InvalidRequest(
            f"The directory format is no single file: write it by pgstow restore --to-directory {file}."
        )
    store = options.open_store(from_, store_option, give_up_after, quiet=quiet)
    with closing(store), show_progress(quiet=quiet) as notify, _output(file) as output:
        export_backup(request, store, output, notify)


@contextmanager
def _output(file: Path | None) -> Iterator[BinaryIO]:
    """Yield standard output, a device or a pipe, or a new file of mode 0600. The file gets its name once it is whole.

    Raises LocalResourceExhausted if the output can't be written, Stopped if its reader has gone, or InvalidRequest if ``file`` names no file.
    """
    from pipeline.errors import InvalidRequest

    if file is None:
        with _written_to("standard output"):
            os.write(_STANDARD_OUTPUT, b"")  # if standard output is closed, this fails before anything is fetched
            with open(_STANDARD_OUTPUT, "wb", closefd=False) as stream:
                yield stream
        return
    if not file.name or file.is_dir():
        raise InvalidRequest(f"--file {file} is a folder, and must be a file.")
    if _is_no_file(file):
        with _written_to(file), file.open("wb") as stream:
            yield stream
        return
    unfinished = file.with_name(f"{file.name}.partial")
    with _written_to(unfinished):
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
            unfinished.rename(file)
        finally:
            unfinished.unlink(missing_ok=True)


def _is_no_file(path: Path) -> bool:
    """True if the path names a device or a pipe, such as /dev/null or /dev/stdout: a file must not take its place."""
    of_process = path.is_symlink() and path.absolute().is_relative_to("/dev")  # /dev/stdout may be a file
    return path.exists() and (of_process or not path.is_file())


@contextmanager
def _written_to(place: Path | str) -> Iterator[None]:
    """Run the block, which writes to ``place``. Raises LocalResourceExhausted if that fails, or Stopped if nobody reads any more."""
    from pipeline.errors import LocalResourceExhausted

    try:
        yield
    except BrokenPipeError as exc:
        raise Stopped(signal.SIGPIPE) from exc
    except OSError as exc:
        if exc.filename in (None, str(place)):
            raise LocalResourceExhausted(f"Cannot write to {place}: {exc.strerror}.") from exc
        raise
