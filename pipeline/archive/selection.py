"""The user's choice of the entries of an archive to restore."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import InvalidRequest
from pipeline.events import Notice, Notify
from pipeline.postgres.patterns import choose_entries, find_named, first_needing, leave_out
from pipeline.postgres.toc import Toc, TocEntry


@dataclass(frozen=True, slots=True)
class EntrySelection:
    """The entries of an archive to restore, by names and pg_dump's patterns, or by dump IDs; all entries if nothing is given.

    Raises InvalidRequest if both ways are used.
    """

    tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    """Names of indexes. A schema and a dot may stand before each name, also before the names of functions and triggers."""
    functions: tuple[str, ...] = ()
    """Names of functions with the types of the arguments, as ``pg_restore --list`` shows them."""
    triggers: tuple[str, ...] = ()
    """For each trigger, the table's name, a space and the trigger's name, as ``pg_restore --list`` shows them."""
    exclude_tables: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    listed: tuple[int, ...] = ()
    """Dump IDs of the entries, in the order to restore them in."""

    def __post_init__(self) -> None:
        if self.listed and (self.by_pattern or self.excludes):
            raise InvalidRequest("A list of entries already says what to restore: leave out names and patterns.")

    @property
    def by_pattern(self) -> bool:
        """True if names or patterns choose the entries."""
        return bool(self.tables or self.schemas or self.indexes or self.functions or self.triggers)

    @property
    def excludes(self) -> bool:
        """True if patterns leave out entries."""
        return bool(self.exclude_tables or self.exclude_schemas)

    @property
    def is_whole(self) -> bool:
        """True if the whole database is restored, except excluded entries."""
        return not (self.by_pattern or self.listed)

    @property
    def is_all(self) -> bool:
        """True if no entry is left out."""
        return self.is_whole and not self.excludes

    def lost(self, toc: Toc) -> list[TocEntry]:
        """Return the entries that are left out because they need an excluded entry. Raises InvalidRequest if a pattern is invalid."""
        return self.select(toc)[1] if self.excludes else []

    def select(self, toc: Toc) -> tuple[set[int], list[TocEntry]]:
        """Return the dump IDs of the entries that names and patterns choose, and the entries that :meth:`lost` returns.

        Raises InvalidRequest if a pattern is invalid, or if a name or pattern to restore matches nothing. A pattern to exclude needs no match.
        """
        named = set[int]()
        for kind, names in (("index", self.indexes), ("function", self.functions), ("trigger", self.triggers)):
            named.update(*(find_named(toc, kind, name) for name in names))
        chosen = {entry.dump_id for entry in toc.entries}
        if self.by_pattern:
            chosen = choose_entries(toc, self.tables, self.schemas, named)
        if not self.excludes:
            return chosen, []
        return leave_out(toc, chosen, self._excluded(toc))

    def check_new(self, toc: Toc) -> None:
        """Raise InvalidRequest if a definition that isn't left out needs an excluded entry: a new database lacks the excluded object."""
        if self.excludes and (found := first_needing(toc, self.select(toc)[0], self._excluded(toc))):
            entry, needed = map(describe, found)
            raise InvalidRequest(
                f"The {entry} needs the {needed}, which is excluded. Exclude both or neither, or restore into a database that has the {needed}."
            )

    def _excluded(self, toc: Toc) -> set[int]:
        return choose_entries(toc, self.exclude_tables, self.exclude_schemas, must_match=False)


def describe(entry: TocEntry) -> str:
    """Return the entry's kind and name for people."""
    return f"{entry.description.lower()} {entry.namespace}{entry.namespace and '.'}{entry.tag}"


def tell_lost(lost: Sequence[TocEntry], notify: Notify) -> None:
    """Notify of each entry that is left out because it needs an excluded entry."""
    for entry in lost:
        notify(Notice(f"Left out, since it needs an excluded object: {describe(entry)}."))
