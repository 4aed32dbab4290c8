"""Shows an archive's table of contents as pg_restore prints it."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.archive.reader import dump_format, read_head
from pipeline.catalog.manifest import Manifest
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.postgres.pg_restore import list_entries
from pipeline.postgres.programs import find_program, major_of
from pipeline.postgres.workspace import Workspace
from pipeline.trust.seal import Keys
from storage_backends import StorageBackend


def show_toc(store: StorageBackend, manifest: Manifest, keys: Keys, programs: Sequence[Path] = ()) -> str:
    """Return the list that ``pg_restore --list`` prints for the archive. Users can edit it for ``--use-list``.

    pgstow fetches only the objects that hold the table of contents. ``keys`` open a sealed backup. ``programs`` has the folders in which to
    look for pg_restore; empty for the usual folders.

    Raises InvalidRequest if the backup is a script or no key fits, ProgramMissing if no pg_restore fits, another PipelineError, or
    StorageError.
    """
    program = find_program("pg_restore", at_least_major=major_of(manifest.source.pg_dump_version), search=programs)
    with Workers() as workers, Workspace() as workspace:
        name, head = read_head(store, manifest, keys, workers, Limits())
        path, format_ = workspace.write_private(name, head), dump_format(manifest)
        return list_entries(program, path.parent if format_ == "directory" else path, format_)
