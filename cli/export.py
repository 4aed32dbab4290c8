"""``pgstow export``."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast

import typer

from cli import options, trust_options
from cli.command import Commands
from cli.errors import Stopped, if_stopped
from cli.progress import show_progress
from cli.restore_options import with_restore_options
from cli.values import parse_format, parse_size
from pipeline.archive.selection import EntrySelection
from pipeline.postgres.restore_options import RestoreOptions

if TYPE_CHECKING:
    from pipeline.catalog.origin import Format

_STANDARD_OUTPUT = 1  # the file descriptor


app = Commands()


@app.command(
    "export",
    examples=[
        "pgstow export --from s3://bucket/prefix --database shop -f shop.sql",
        "pgstow export --from s3://bucket/prefix --database shop | psql service=new",
    ],
)
@with_restore_options
def export(
    backup: options.BackupId = "latest",
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    at: options.At = None,
    partial: options.Partial = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="The file to write. Default: standard output",
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            "-F",
            metavar="FORMAT",
            parser=parse_format,
            help="plain: write an SQL script. directory, custom or tar: write pg_dump's archive; name the format "
            "that the backup has. The directory format goes only to standard output, as a tar file",
        ),
    ] = "plain",
    create: Annotated[bool, typer.Option("--create", "-C", help="Let the script create the database")] = False,
    quiet: options.Quiet = False,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: trust_options.Unsigned = False,
    choice: EntrySelection,
    how: RestoreOptions,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
    transfers: options.Transfers = 4,
    memory: options.Memory = parse_size(options.MEMORY_DEFAULT),
    spool_dir: options.SpoolDir = None,
    bin_dir: options.BinDir = None,
) -> None:
    """Turn a backup into an SQL script for psql, or into the archive that pg_dump made.

    pgstow checks every object before it uses a byte of the object.
    """
    from pipeline.catalog.find import BackupSelector
    from pipeline.errors import InvalidRequest
    from pipeline.restore.export import ExportRequest
    from pipeline.restore.export import export as export_backup

    request = ExportRequest(
        wanted=BackupSelector(backup, cluster, database, at, partial, trust_options.make_trust(trusted_key), unsigned),
        format=cast("Format", format_),
        choice=choice,
        options=how,
        create=create,
        limits=options.make_limits(1, transfers, memory, spool_dir),
        programs=tuple(bin_dir or ()),
    )
    if format_ == "directory" and file is not None:
        raise InvalidRequest(
            f"The directory format is a folder, not a file: write it with pgstow restore --to-directory {file}."
        )
    store = options.open_store(from_, store_option, give_up_after, quiet=quiet)
    with (
        closing(store),
        if_stopped("the output is incomplete"),
        show_progress(quiet=quiet) as notify,
        _output(file) as output,
    ):
        export_backup(request, store, output, notify)


@contextmanager
def _output(file: Path | None) -> Iterator[BinaryIO]:
    """Yield standard output, a device or a pipe, or a new file of mode 0600. The new file gets its name when it is complete.

    Raise LocalResourceExhausted if the output can't be written, Stopped if its reader has gone, or InvalidRequest if ``file`` is a folder.
    """
    from pipeline.errors import InvalidRequest

    if file is None:
        with _written_to("standard output"):
            os.write(_STANDARD_OUTPUT, b"")  # if standard output is closed, this fails before anything is fetched
            with open(_STANDARD_OUTPUT, "wb", closefd=False) as stream:
                yield stream
        return
    if not file.name or file.is_dir():
        raise InvalidRequest(f"--file {file} is a folder: name a file.")
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
    """True if the path names a device or a pipe, such as /dev/null or /dev/stdout. A new file must not replace it."""
    of_process = path.is_symlink() and path.absolute().is_relative_to("/dev")  # /dev/stdout may be a file
    return path.exists() and (of_process or not path.is_file())


@contextmanager
def _written_to(place: Path | str) -> Iterator[None]:
    """Run the block, which writes to ``place``. Raise LocalResourceExhausted if a write fails, or Stopped if the reader has gone."""
    from pipeline.errors import LocalResourceExhausted

    try:
        yield
    except BrokenPipeError as exc:
        raise Stopped(signal.SIGPIPE) from exc
    except OSError as exc:
        if exc.filename in (None, str(place)):
            raise LocalResourceExhausted(f"Cannot write to {place}: {exc.strerror}.") from exc
        raise
