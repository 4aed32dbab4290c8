"""Makes an archive in which the chosen objects are in another schema, or have another name.

The SQL of an archive has names everywhere, and pgstow doesn't rewrite SQL. Instead, PostgreSQL renames the objects:

1. pgstow restores the definitions of the chosen objects, and of all objects that they need, into a scratch database without any rows.
2. It moves or renames the objects in the scratch database by ALTER.
3. It dumps the definitions again. The result is a new table of contents for the archive's old files.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from pipeline.archive.reader import Archive
from pipeline.archive.selection import EntrySelection
from pipeline.catalog.manifest import TOC_NAME
from pipeline.errors import ConnectionFailed, InvalidRequest, RestoreFailed, StatementRefused
from pipeline.events import Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.dump import dump_definitions
from pipeline.postgres.loading import with_dump_settings
from pipeline.postgres.maintenance import maintenance_database
from pipeline.postgres.patterns import Name
from pipeline.postgres.pg_restore import PgRestore
from pipeline.postgres.prerequisites import missing_extensions, named_extensions
from pipeline.postgres.programs import Program, find_program
from pipeline.postgres.renaming import can_rename_schema, move_relations, rename_schema
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.scratch import scratch_database
from pipeline.postgres.server import Server
from pipeline.postgres.toc import TocEntry
from pipeline.postgres.toc_format import read_toc
from pipeline.postgres.workspace import Workspace
from pipeline.restore.compatibility import check_server, find_restorer
from pipeline.restore.properties import try_settings
from pipeline.restore.relocation_plan import Move, Relocation, pattern_for, patterns_for, plan_move
from pipeline.restore.request import RestoreRequest


def relocate(
    archive: Archive, request: RestoreRequest, relocation: Relocation, target: Conninfo, notify: Notify
) -> tuple[Archive, EntrySelection]:
    """Return the archive with the chosen objects in another schema or under another name, and a selection of the moved objects.

    The scratch database is made on the target's server, and is always dropped again. Raises InvalidRequest if the objects can't be moved as
    requested, or another PipelineError.
    """
    archive.check_directory("another schema or name")
    move = plan_move(archive, request.choice, relocation)
    notify(Started("Moving the definitions in a scratch database"))
    with scratch_database(target, "scratch", notify) as scratch:
        pg_restore, pg_dump = _make_database(archive, move.needed, scratch, request, notify)
        loading = with_dump_settings(scratch, archive.manifest.source, money=archive.uses_money(move.needed))
        _restore_definitions(pg_restore, archive, move.needed, loading, request)
        moved, new_choice = _move(move, scratch)
        with Server(scratch) as server, server.blamed(), Workspace(request.limits.spool_parent) as workspace:
            toc_data = dump_definitions(pg_dump, loading, workspace, encoding=archive.toc.encoding, name=_name(archive))
    return _with_old_files(archive, toc_data, moved, pg_dump), new_choice


def _make_database(
    archive: Archive, needed: Collection[int], scratch: Conninfo, request: RestoreRequest, notify: Notify
) -> tuple[Program, Program]:
    """Make the scratch database with the backed-up database's properties and settings. Return the pg_restore and the pg_dump for it."""
    with Server(maintenance_database(scratch)) as server:
        source = archive.manifest.source
        check_server(server, source, archive.format, allow_older=request.allow_older)
        pg_restore = find_restorer(server, source, archive.format, _definition_options(request), request.programs)
        pg_dump = find_program("pg_dump", at_least_major=pg_restore.major, search=request.programs)
        entries = tuple(entry for entry in archive.toc.entries if entry.dump_id in needed)
        if lacking := missing_extensions(server, named_extensions(replace(archive.toc, entries=entries))):
            raise InvalidRequest(
                f"The server lacks extensions that the chosen objects need: {', '.join(lacking)}. Install them."
            )
        try:
            server.create_database(scratch.database or "", source)
        except StatementRefused as exc:
            raise ConnectionFailed(
                f"{exc} To rename objects, pgstow first restores their definitions into a scratch database, so its role needs CREATEDB."
            ) from exc
        try_settings(server, archive, scratch.database or "", notify)
    return pg_restore, pg_dump


def _restore_definitions(
    program: Program, archive: Archive, needed: Collection[int], scratch: Conninfo, request: RestoreRequest
) -> None:
    """Restore the ``needed`` entries with the user's options. Sequences get their values. Materialized views are refreshed but have no rows."""
    limits = request.limits
    with Server(scratch) as server, server.blamed(), Workspace(limits.spool_parent) as workspace:
        dump_ids = archive.with_schemas(needed, present=server.schemas())
        folder = workspace.path / "archive"
        folder.mkdir(mode=0o700)
        (folder / TOC_NAME).write_bytes(archive.toc_data)
        restoration = PgRestore.into_database(
            program,
            scratch.for_program(workspace, _name(archive)),
            workspace,
            folder,
            "directory",
            jobs=limits.jobs,
            dump_ids=dump_ids,
            options=_definition_options(request),
            unset=scratch.overrides,
        )
        try:
            restoration.wait()
        except RestoreFailed as exc:
            raise RestoreFailed(f"The definitions can't be restored into a scratch database. {exc}") from exc


def _definition_options(request: RestoreRequest) -> RestoreOptions:
    """Return those of the user's options that matter for definitions."""
    options = request.options
    return RestoreOptions(
        no_owner=options.no_owner,
        no_privileges=options.no_privileges,
        no_comments=options.no_comments,
        no_security_labels=options.no_security_labels,
        no_tablespaces=options.no_tablespaces,
        no_table_access_method=options.no_table_access_method,
        role=options.role,
    )


def _move(move: Move, scratch: Conninfo) -> tuple[dict[Name, Name], EntrySelection]:
    """Move the relations. Return each relation's new name by its old name, and the selection that chooses all of them."""
    try:
        with Server(scratch) as server:
            old, new = move.whole_schema, move.schema
            if old and new and can_rename_schema(server, old, new):
                rename_schema(server, old, new)
                return {(old, name): (new, name) for _, name in move.relations}, EntrySelection(
                    schemas=(pattern_for(new),)
                )
            move.check_alone()
            moved = move_relations(server, move.relations, schema=new, rename=move.rename)
    except StatementRefused as exc:
        raise RestoreFailed(f"The chosen objects can't be moved. {exc}") from exc
    return moved, EntrySelection(tables=patterns_for(moved.values()))


def _with_old_files(archive: Archive, toc_data: bytes, moved: Mapping[Name, Name], pg_dump: Program) -> Archive:
    """Return the archive with the new table of contents, and with the old files for the data of the moved tables."""
    toc = read_toc(toc_data)
    data = {
        moved[entry.namespace, entry.tag]: entry
        for entry in archive.toc.data_entries
        if entry.description == "TABLE DATA" and (entry.namespace, entry.tag) in moved
    }
    files = {TOC_NAME: archive.files[TOC_NAME]}
    for entry in toc.data_entries:
        name = (entry.namespace, entry.tag)
        if (old := data.get(name)) is None:
            continue
        if _column_names(old) != _column_names(entry):
            raise RestoreFailed(
                f"{old.namespace}.{old.tag} can't be moved: it inherits columns, and its new definition has the columns in another order than "
                "its data. Restore it under its own name."
            )
        files[entry.filename] = replace(
            archive.files[old.filename],
            path=entry.filename,
            dump_id=entry.dump_id,
            schema_name=name[0],
            relation=name[1],
        )
    source = archive.manifest.source.model_copy(update={"pg_dump_version": pg_dump.version})
    return replace(
        archive,
        manifest=archive.manifest.model_copy(update={"source": source}),
        toc_data=toc_data,
        toc=replace(
            toc, entries=tuple(entry for entry in toc.entries if not entry.filename or entry.filename in files)
        ),
        files=files,
        lists={},
    )


def _column_names(entry: TocEntry) -> list[str]:
    """Return the columns' names without quotes, because different versions of pg_dump quote different names."""
    return [quoted or plain for quoted, plain in re.findall(r'"((?:[^"]|"")+)"|([^\s(),"]+)', entry.columns)]


def _name(archive: Archive) -> str:
    """Return the application name of the sessions on the server."""
    return f"pgstow {archive.manifest.backup_id}"
