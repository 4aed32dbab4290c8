"""The content to restore: an archive, and the entries that were chosen from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.archive.reader import Archive
from pipeline.archive.selection import EntrySelection, tell_lost
from pipeline.catalog.manifest import File, Manifest
from pipeline.errors import InvalidRequest
from pipeline.events import Notice, Notify
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.partitions import Attachment, attachments_left_out
from pipeline.postgres.patterns import belongs_elsewhere
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.server import Server
from pipeline.restore.relocation import relocate
from pipeline.restore.request import RestoreRequest
from pipeline.restore.rows import Table


@dataclass(frozen=True, slots=True)
class Content:
    """An archive, and its parts to restore."""

    archive: Archive
    chosen: Sequence[int] | None
    """Dump IDs of the chosen entries, in the order in which they are restored; None for all entries."""
    files: Sequence[File]
    """The files that hold the data of the chosen entries."""
    tables: Sequence[Table]
    """The tables that get rows."""
    alone: Sequence[Attachment]
    """The chosen partitions whose partitioned table isn't chosen."""

    @property
    def size(self) -> int:
        """Bytes of all ``files``, uncompressed."""
        return sum(file.size for file in self.files)

    def with_schemas(self, server: Server) -> "Content":
        """Return the content with the schemas that chosen entries need and the database lacks. Raises ConnectionFailed."""
        if self.chosen is None:
            return self
        return replace(self, chosen=self.archive.with_schemas(self.chosen, present=server.schemas()))


def choose_content(archive: Archive, request: RestoreRequest, target: Conninfo, notify: Notify) -> Content:
    """Return the content that the request asks for.

    If the request names another schema or name, relocate the chosen objects. ``target`` is the database to restore into.

    Raises InvalidRequest if the backup's format doesn't allow the request, or another PipelineError.
    """
    options, choice = request.options, request.choice
    archive = archive.with_roles(request.roles)
    if archive.format == "plain":
        _refuse_options(options, archive.manifest)
    chosen = archive.choose(choice)
    alone = attachments_left_out(archive.toc, chosen or ()) if options.makes_tables else []
    if request.create:
        choice.check_new(archive.toc)
    if request.relocation is not None:
        archive, choice = relocate(archive, request, request.relocation, target, notify)
        chosen = archive.choose(choice)
    return Content(
        archive,
        chosen,
        archive.files_of(chosen) if options.loads_data or archive.is_stream else [],
        archive.tables_of(chosen) if options.loads_data else [],
        alone,
    )


def tell_what_is_left_out(content: Content, choice: EntrySelection, notify: Notify) -> None:
    """Notify of each entry, such as a foreign key, that isn't restored because it belongs to a chosen object and also to another object.

    Also notify of each entry that is left out because it needs an excluded entry.
    """
    lost = choice.lost(content.archive.toc)
    tell_lost(lost, notify)
    chosen = frozenset(content.chosen or ()).union(entry.dump_id for entry in lost)
    for entry in content.archive.toc.entries if choice.by_pattern else ():
        if belongs_elsewhere(entry) and entry.dump_id not in chosen and not chosen.isdisjoint(entry.dependencies):
            kind = "foreign key" if entry.description == "FK CONSTRAINT" else entry.description.lower()
            notify(
                Notice(f"Not restored, since it also belongs to another object: {kind} {entry.namespace}.{entry.tag}.")
            )


def _refuse_options(options: RestoreOptions, manifest: Manifest) -> None:
    """Raise InvalidRequest if an option would change a plain script, or asks for a single transaction and the script has its own."""
    if options != RestoreOptions(single_transaction=options.single_transaction):
        raise InvalidRequest(
            "The backup is a plain script, which psql runs unchanged: leave out the options that would change it, or edit the script that "
            "pgstow export writes."
        )
    if options.single_transaction and manifest.dump.large_objects:
        raise InvalidRequest(
            "The script begins and ends its own transactions for large objects: leave out --single-transaction."
        )
