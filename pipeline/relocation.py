"""An archive in which what was chosen lies in another schema, or has another name.

Names stand all over the SQL of an archive, and pgstow doesn't rewrite that: PostgreSQL renames. The definitions of what was chosen, and of
what that needs, are restored into a scratch database without any rows, moved there by ALTER, and dumped again. What comes of it is a new
table of contents for the files that the old one has.
"""

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.archive_reader import Archive, Choice
from pipeline.config import Limits, RestoreOptions
from pipeline.errors import ConnectionFailed, InvalidRequest, RestoreFailed
from pipeline.events import Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.dump import dump_definitions
from pipeline.postgres.patterns import RELATIONS, Name, choose_entries
from pipeline.postgres.prerequisites import missing_extensions
from pipeline.postgres.programs import Program, find_program
from pipeline.postgres.renaming import LONGEST_NAME, can_rename_schema, move_relations, rename_schema
from pipeline.postgres.restoration import Restoration
from pipeline.postgres.server import Server
from pipeline.postgres.toc import TOC_NAME, TocEntry, read_toc
from pipeline.postgres.workspace import Workspace
from pipeline.restore_target import find_pg_restore, refuse_older
from pipeline.scratch import scratch_database

_TICK = 0.02  # seconds between looks at pg_restore


@dataclass(frozen=True, slots=True)
class Relocation:
    """Where to restore what was chosen, instead of where it was, or as what. Names are taken as they are. Raises InvalidRequest."""

    schema: str | None = None
    """For all that was chosen."""
    name: str | None = None
    """For the one table, view or the like that was chosen."""

    def __post_init__(self) -> None:
        for option, name in (("--to-schema", self.schema), ("--as", self.name)):
            if name is not None and not 0 < len(name.encode()) <= LONGEST_NAME:
                raise InvalidRequest(f"{option} needs a name of 1 to {LONGEST_NAME} bytes, not {name!r}.")


def relocate(
    archive: Archive,
    choice: Choice,
    relocation: Relocation,
    target: Conninfo,
    options: RestoreOptions,
    limits: Limits,
    programs: Sequence[Path],
    notify: Notify,
    *,
    allow_older: bool = False,
) -> tuple[Archive, Choice]:
    """The same archive with what was chosen by patterns elsewhere, and the choice of that in it.

    The scratch database is on the target's server, and dropped again in any case. Raises PipelineError.
    """
    chosen = archive.choose(choice) or ()
    renamed = _only_relation(archive, chosen) if relocation.name is not None else None
    rename = (renamed, relocation.name) if renamed and relocation.name else None
    notify(Started("Moving the definitions in a scratch database"))
    with scratch_database(target, "scratch", notify) as scratch:
        needed = _needed(archive, chosen)
        pg_restore, pg_dump = _make_database(archive, needed, scratch, programs, allow_older=allow_older)
        _restore_definitions(pg_restore, archive, needed, scratch, options, limits)
        moved, new_choice = _move(archive, choice, chosen, scratch, relocation.schema, rename)
        with Workspace(limits.spool_parent) as workspace:
            toc_data = dump_definitions(pg_dump, scratch, workspace, encoding=archive.toc.encoding, name=_name(archive))
    return _with_old_files(archive, toc_data, moved, pg_dump), new_choice


def _make_database(
    archive: Archive, needed: Collection[int], scratch: Conninfo, search: Sequence[Path], *, allow_older: bool
) -> tuple[Program, Program]:
    """Make it like the one that was backed up. Returns the pg_restore for it, and the pg_dump."""
    with Server(scratch.with_database("postgres")) as server:
        source = archive.manifest.source
        if not allow_older:
            refuse_older(server, source)
        pg_restore = find_pg_restore(server, source, search)
        pg_dump = find_program("pg_dump", at_least_major=pg_restore.major, search=search)
        entries = tuple(entry for entry in archive.toc.entries if entry.dump_id in needed)
        if lacking := missing_extensions(server, replace(archive.toc, entries=entries)):
            raise InvalidRequest(f"The server lacks extensions that this needs: {', '.join(lacking)}. Install them.")
        try:
            server.create_database(scratch.database or "", source)
        except ConnectionFailed as exc:
            raise ConnectionFailed(
                f"{exc} pgstow restores definitions into a database of their own first, to rename them there: it needs CREATEDB."
            ) from exc
    return pg_restore, pg_dump


def _restore_definitions(
    program: Program,
    archive: Archive,
    needed: Collection[int],
    scratch: Conninfo,
    options: RestoreOptions,
    limits: Limits,
) -> None:
    """As the user wants them; values of sequences are among them, and materialized views are filled, though with nothing."""
    with Server(scratch) as server:
        dump_ids = archive.with_schemas(needed, present=server.schemas())
    with Workspace(limits.spool_parent) as workspace:
        folder = workspace.path / "archive"
        folder.mkdir(mode=0o700)
        (folder / TOC_NAME).write_bytes(archive.toc_data)
        restoration = Restoration.into_database(
            program,
            scratch,
            workspace,
            folder,
            jobs=limits.jobs,
            name=_name(archive),
            dump_ids=dump_ids,
            options=RestoreOptions(
                no_owner=options.no_owner,
                no_privileges=options.no_privileges,
                no_comments=options.no_comments,
                no_security_labels=options.no_security_labels,
                no_tablespaces=options.no_tablespaces,
                role=options.role,
            ),
        )
        try:
            while not restoration.has_ended():
                time.sleep(_TICK)
        except RestoreFailed as exc:
            raise RestoreFailed(f"The definitions can't be restored into a scratch database. {exc}") from exc


def _move(
    archive: Archive,
    choice: Choice,
    chosen: Collection[int],
    scratch: Conninfo,
    schema: str | None,
    rename: tuple[Name, str] | None,
) -> tuple[dict[Name, Name], Choice]:
    """Where each of the chosen relations is now, by where it was; and the choice of all that was moved."""
    relations = [(entry.namespace, entry.tag) for entry in _relations(archive, chosen).values()]
    try:
        with Server(scratch) as server:
            old = _only_schema(archive, choice, chosen)
            if schema and old and can_rename_schema(server, old, schema):
                rename_schema(server, old, schema)
                return {(old, name): (schema, name) for _, name in relations}, Choice(schemas=(_quoted(schema),))
            _check_alone(archive, chosen, relations)
            moved = move_relations(server, relations, schema=schema, rename=rename)
    except ConnectionFailed as exc:
        raise RestoreFailed(f"What was chosen can't be moved. {exc}") from exc
    return moved, Choice(tables=_patterns(moved.values()))


def _with_old_files(archive: Archive, toc_data: bytes, moved: Mapping[Name, Name], pg_dump: Program) -> Archive:
    """The archive with that table of contents, for the data of what was moved."""
    toc = read_toc(toc_data)
    data = {
        moved.get((entry.namespace, entry.tag)): entry
        for entry in archive.toc.data_entries
        if entry.description == "TABLE DATA"
    }
    files = {TOC_NAME: archive.files[TOC_NAME]}
    for entry in toc.data_entries:
        name = (entry.namespace, entry.tag)
        if (old := data.get(name)) is None:
            continue
        if _column_names(old) != _column_names(entry):
            raise RestoreFailed(
                f"{old.namespace}.{old.tag} can't be moved: it comes back with its columns in another order than its data has them, as it "
                "inherits some of them. Restore it under its own name."
            )
        files[entry.filename] = archive.files[old.filename].model_copy(
            update={"path": entry.filename, "dump_id": entry.dump_id, "schema_name": name[0], "relation": name[1]}
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


def _needed(archive: Archive, chosen: Collection[int]) -> set[int]:
    """The chosen entries and all that they depend on, but for those that hold data."""
    by_id = {entry.dump_id: entry for entry in archive.toc.entries if not entry.filename}
    needed: set[int] = set()
    waiting = [dump_id for dump_id in chosen if dump_id in by_id]
    while waiting:
        dump_id = waiting.pop()
        if dump_id not in needed:
            needed.add(dump_id)
            waiting += [other for other in by_id[dump_id].dependencies if other in by_id]
    return needed


def _relations(archive: Archive, chosen: Collection[int]) -> dict[int, TocEntry]:
    """Those that were chosen, by dump ID."""
    wanted = frozenset(chosen)
    return {
        entry.dump_id: entry
        for entry in archive.toc.entries
        if entry.description in RELATIONS and entry.dump_id in wanted
    }


def _only_relation(archive: Archive, chosen: Collection[int]) -> Name:
    """The one relation that was chosen; its partitions and sequences don't count. Raises InvalidRequest."""
    relations = _relations(archive, chosen)
    wanted = frozenset(chosen)
    partitions = {
        (entry.namespace, entry.tag)
        for entry in archive.toc.entries
        if entry.description == "TABLE ATTACH" and entry.dump_id in wanted
    }
    found = [
        (entry.namespace, entry.tag)
        for entry in relations.values()
        if (entry.namespace, entry.tag) not in partitions
        and not (entry.description == "SEQUENCE" and not relations.keys().isdisjoint(entry.dependencies))
    ]
    if len(found) != 1:
        names = [f"{schema}.{name}" for schema, name in found[:5]]
        raise InvalidRequest(f"--as is the new name of one table, and {len(found)} were chosen: {', '.join(names)}.")
    return found[0]


def _only_schema(archive: Archive, choice: Choice, chosen: Collection[int]) -> str | None:
    """The schema that was chosen as a whole; None where something else was chosen, too."""
    wanted = frozenset(chosen)
    schemas = {entry.namespace for entry in archive.toc.entries if entry.dump_id in wanted and entry.namespace}
    return schemas.pop() if not choice.tables and len(schemas) == 1 else None


def _check_alone(archive: Archive, chosen: Collection[int], relations: Collection[Name]) -> None:
    """Raises InvalidRequest where more was chosen than relations and what is part of them, or no relation at all."""
    parts = choose_entries(archive.toc, _patterns(relations), ()) if relations else set()
    others = frozenset(chosen) - parts
    for entry in archive.toc.entries:
        if entry.dump_id in others and entry.namespace and entry.description != "DEFAULT ACL":
            raise InvalidRequest(
                f"{entry.description} {entry.namespace}.{entry.tag} can't be moved: choose tables with -t, or one schema with -n and a name "
                "for it that no schema of the backup has."
            )
    if not relations:
        raise InvalidRequest("There is no table to move.")


def _patterns(names: Iterable[Name]) -> tuple[str, ...]:
    """Patterns for just these, one for each schema."""
    by_schema: dict[str, list[str]] = {}
    for schema, name in names:
        by_schema.setdefault(schema, []).append(_quoted(name))
    return tuple(f"{_quoted(schema)}.({'|'.join(quoted)})" for schema, quoted in by_schema.items())


def _column_names(entry: TocEntry) -> list[str]:
    """Whether pg_dump quotes one depends on the key words that it knows."""
    return [quoted or plain for quoted, plain in re.findall(r'"((?:[^"]|"")+)"|([^\s(),"]+)', entry.columns)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _name(archive: Archive) -> str:
    """The application's, of sessions on the server."""
    return f"pgstow {archive.manifest.backup_id}"
