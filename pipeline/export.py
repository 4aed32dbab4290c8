"""Turn a backup into a script for psql, without a server."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pipeline.archive_reader import Choice, open_archive
from pipeline.catalog import Wanted, find_backup
from pipeline.concurrency import Workers
from pipeline.config import Limits, RestoreOptions
from pipeline.events import Notify, Started
from pipeline.manifest import Manifest
from pipeline.postgres.programs import find_program, major_of
from pipeline.postgres.restoration import Restoration
from pipeline.postgres.workspace import Workspace
from pipeline.restore import follow
from pipeline.stages.download import ObjectReader, check_content
from pipeline.stages.feed import Feed, plan_feed
from storage_backends import StorageBackend


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Which backup to turn into a script, and what of it."""

    wanted: Wanted
    choice: Choice = field(default_factory=Choice)
    options: RestoreOptions = field(default_factory=RestoreOptions)
    create: bool = False
    """Have the script make the database, under the name that it had."""
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders to look for PostgreSQL's programs in, instead of the usual ones."""


def export(request: ExportRequest, store: StorageBackend, output: BinaryIO, notify: Notify) -> Manifest:
    """Write the script, which stock pg_restore makes of the archive, or which roles and tablespaces are already.

    Every object is checked before any of it is used. After a failure, what was written is only a part.

    Raises PipelineError or StorageError.
    """
    limits = request.limits
    manifest = find_backup(store, request.wanted)
    with Workers() as workers:
        if manifest.kind == "globals":
            reader = ObjectReader(store, manifest.objects, manifest.files, workers, limits)
            for file in manifest.files:
                output.writelines(check_content(file, reader.read(file)))
            return manifest
        archive = open_archive(store, manifest, workers, limits)
        chosen = archive.choose(request.choice)
        files = archive.files_of(chosen) if request.options.loads_data else []
        dumped_by = manifest.source.pg_dump_version
        program = find_program("pg_restore", at_least_major=major_of(dumped_by), search=request.programs)
        reader = ObjectReader(store, manifest.objects, files, workers, limits)
        plan = plan_feed(archive.toc_data, archive.toc, {file.path: file for file in files}, archive.lists, jobs=1)
        notify(Started(f"Writing a script of {manifest.database} with pg_restore {program.version}"))
        with Workspace(limits.spool_parent) as workspace:
            folder = workspace.path / "archive"
            feed = Feed(folder, plan, reader, workers, jobs=1)
            scripting = Restoration.into_script(
                program,
                workspace,
                folder,
                output.fileno(),
                create=request.create,
                dump_ids=chosen,
                options=request.options,
            )
            follow(scripting, feed, reader, None, sum(file.size for file in files), workers, notify)
    return manifest
