"""Reads an SQL script of pg_dump, pg_restore or pg_dumpall as a stream: finds the tables with data in it, and checks that it is whole."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.catalog.manifest import TableData
from pipeline.errors import DumpFailed
from pipeline.postgres.dump import COPY_END
from pipeline.postgres.encodings import python_codec, shown
from pipeline.postgres.restricted_mode import connected_database, describe, find_end, is_of_a_dump
from pipeline.postgres.script_lexer import COPY, Kind, ScriptLexer
from pipeline.postgres.toc import Toc
from pipeline.trust.seal import UNSEALED, Digest, Seal

Take = Callable[[str, str, bytes], None]
"""A function that is called with schema, name and some bytes of a table's rows."""

TableName = tuple[str | None, str, str]
"""Database, schema and name. The database is None unless the script is a cluster's."""

_VIA_ROOT = re.compile(
    rb"\n-- Data for Name: (?P<tag>[^\n]*); Type: TABLE DATA; Schema: (?P<namespace>[^\n]*); Owner: [^\n]*\n--\n\n"
    rb"-- load via partition root [^\n]*\n\n\Z"
)
"""The comment before rows that are loaded via the partitioned table (dumpTableData() in pg_dump.c)."""
_KEPT = 4096  # bytes of SQL: enough for such a comment, or for the script's end
_ENDS = {
    False: b"\n-- PostgreSQL database dump complete\n",  # _dumpEndMessage in RestoreArchive(), pg_backup_archiver.c
    True: b"\n-- PostgreSQL database cluster dump complete\n",  # main() in pg_dumpall.c
}
"""The text at the end of a script: False for a database's script, True for a cluster's."""


@dataclass(slots=True)
class _TableInProgress:
    database: str | None
    schema: str
    relation: str
    columns: str
    digest: Digest
    rows: int = 0
    size: int = 0


class ScriptReader:
    """Reads a script piece by piece. ``of_cluster`` is true for a script of pg_dumpall. ``take`` gets the rows of every table.

    The tables' checksums are digests of ``seal``.
    """

    def __init__(self, seal: Seal = UNSEALED, *, of_cluster: bool = False, take: Take | None = None) -> None:
        self._seal = seal
        self._of_cluster = of_cluster
        self._take = take
        self._lexer = ScriptLexer()
        self._before = b"\n"
        """The last bytes of SQL."""
        self._database: str | None = None
        self._table: _TableInProgress | None = None
        self._expected: Sequence[TableName] | None = None
        self._found: list[TableData] = []
        self.large_objects = False
        """True if the script must have large objects. It then begins and ends transactions itself (``StartRestoreLOs`` in
        pg_backup_archiver.c)."""

    def expect(self, tables: Sequence[TableName], *, large_objects: bool = False) -> None:
        """Expect the data of exactly these tables, in this order. For other data, :meth:`write` and :meth:`finish` raise DumpFailed."""
        self._expected, self.large_objects = tables, large_objects

    @property
    def encoding(self) -> str:
        """PostgreSQL's name of the script's encoding. In a cluster's script, each database may have another one."""
        return self._lexer.encoding

    @property
    def current(self) -> str | None:
        """Schema and name of the table whose rows are being read, with a dot between; None outside rows."""
        return f"{self._table.schema}.{self._table.relation}" if self._table else None

    def write(self, data: bytes) -> None:
        """Read the next piece. Raises DumpFailed if it can't be part of such a script."""
        self._take_pieces(self._lexer.split(data))

    def finish(self) -> list[TableData]:
        """Return the tables with data in the script, in its order. Raises DumpFailed if the script isn't whole."""
        self._take_pieces(self._lexer.split(b"", last=True))
        if self._table:
            raise DumpFailed(f"The script is cut short in the data of {self.current}.")
        if not self._lexer.between_statements or _ENDS[self._of_cluster] not in self._before:
            raise DumpFailed("The script is cut short.")
        if missing := (self._expected or ())[len(self._found) :]:
            raise DumpFailed(f"The script lacks the data of {_shown(missing[0])}.")
        if twice := [name for name, times in Counter(map(_name, self._found)).items() if times > 1]:
            raise DumpFailed(f"The script has the data of {_shown(twice[0])} twice.")
        return self._found

    def _take_pieces(self, pieces: Iterator[tuple[Kind, bytes]]) -> None:
        for kind, piece in pieces:
            match kind:
                case Kind.SQL:
                    _refuse_end(self._before + piece)
                    self._before = (self._before + piece[-_KEPT:])[-_KEPT:]
                case Kind.COPY:
                    _refuse_end(piece)
                    self._table = self._begin(piece)
                case Kind.ROWS:
                    self._pass(piece)
                case Kind.END_OF_ROWS:
                    self._end()
                case Kind.COMMAND:
                    self._obey(piece)

    def _obey(self, command: bytes) -> None:
        name = connected_database(command)
        if name is not None and self._of_cluster:
            self._database = name.decode(python_codec(self._lexer.first_encoding), "backslashreplace")
        elif name is not None or not is_of_a_dump(command):
            raise DumpFailed(
                f"The script has psql's command {describe(command)} outside of quotes and rows, so no restore would run the script. "
                "An object's name may hold a newline and the command: rename the object, or use the directory format."
            )

    def _begin(self, statement: bytes) -> _TableInProgress:
        copy = COPY.fullmatch(statement)
        if copy is None or self._table:
            raise DumpFailed("The script has rows within rows.")
        schema, relation = (_unquoted(shown(copy[part], self.encoding)) for part in ("schema", "name"))
        name: TableName = self._database, schema, relation
        via_root = _VIA_ROOT.search(self._before)
        if self._expected is not None:
            wanted = self._expected[len(self._found)] if len(self._found) < len(self._expected) else None
            if wanted is None or (name != wanted and not via_root):
                instead = f"the data of {_shown(wanted)}" if wanted else "the script's end"
                raise DumpFailed(f"The script has data of {_shown(name)} in the place of {instead}.")
            name = wanted
        elif via_root:
            schema, relation = (shown(via_root[part], self.encoding) for part in ("namespace", "tag"))
            name = self._database, schema, relation
        return _TableInProgress(*name, shown(copy["columns"] or b"", self.encoding), self._seal.digest())

    def _pass(self, rows: bytes) -> None:
        if (table := self._table) is None:
            raise DumpFailed("The script has rows that belong to no table.")
        table.digest.update(rows)
        table.rows += rows.count(b"\n")
        table.size += len(rows)
        if self._take:
            self._take(table.schema, table.relation, rows)

    def _end(self) -> None:
        if (table := self._table) is None:
            raise DumpFailed("The script has an end of rows without rows before it.")
        table.digest.update(COPY_END)
        self._found.append(
            TableData(
                database=table.database,
                schema_name=table.schema,
                relation=table.relation,
                columns=table.columns,
                rows=table.rows,
                size=table.size + len(COPY_END),
                checksum=table.digest.hexdigest(),
            )
        )
        self._table = None


def tables_with_data(toc: Toc) -> list[TableName]:
    """Return the tables whose data pg_dump or pg_restore writes for this table of contents, in the same order."""
    return [(None, entry.namespace, entry.tag) for entry in toc.entries if entry.description == "TABLE DATA"]


def _unquoted(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _refuse_end(sql: bytes) -> None:
    if end := find_end(sql):
        raise DumpFailed(
            f"The script has {end} outside of rows, so no restore would run the script. "
            "A function, a comment or a name may hold this text: change the object, or use the directory format."
        )


def _name(table: TableData) -> TableName:
    return table.database, table.schema_name, table.relation


def _shown(name: TableName) -> str:
    return ".".join(part for part in name if part is not None)
