"""An SQL script as pg_dump, pg_restore and pg_dumpall write it, read as it passes: which tables' data is in it, and whether it is whole."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from pipeline.errors import DumpFailed
from pipeline.manifest import TableData
from pipeline.postgres.dump import COPY_END
from pipeline.postgres.encodings import python_codec, shown

Take = Callable[[str, str, bytes], None]
"""Called with schema, name and some bytes of a table's rows."""

_MARK = re.compile(rb"""\n(?:-- Data for Name: |-- Database "|SET client_encoding = ')""")
_ENCODING = re.compile(rb"\nSET client_encoding = '([^'\n]+)';\n")
_DATABASE = re.compile(rb'\n-- Database "([^\n]*)" dump\n')
"""dumpDatabases() in pg_dumpall.c."""
_IDENTIFIER = rb'(?:"(?:[^"]|"")+"|[^\s".(]+)'
_DATA = re.compile(
    rb"\n-- Data for Name: (?P<tag>[^\n]*); Type: TABLE DATA; Schema: (?P<namespace>[^\n]*); Owner: [^\n]*\n--\n\n"
    rb"(?P<by_root>-- load via partition root [^\n]*\n\n)?"
    rb"COPY (?P<schema>" + _IDENTIFIER + rb")\.(?P<name>" + _IDENTIFIER + rb") "
    rb'(?P<columns>\((?:"(?:[^"]|"")+"|[^"()])*\))? ?FROM stdin;\n'
)
"""_printTocEntry() in pg_backup_archiver.c, and dumpTableData() in pg_dump.c."""
_LONGEST_HEAD = 1024 * 1024  # bytes; a table has 1,600 columns at most, with names of 63 bytes
_PART = 64 * 1024  # bytes
_KEPT = 1000  # bytes in which a mark may begin, or the end be said
_ENDS = {
    False: b"\n-- PostgreSQL database dump complete\n",  # _dumpEndMessage in RestoreArchive(), pg_backup_archiver.c
    True: b"\n-- PostgreSQL database cluster dump complete\n",  # main() in pg_dumpall.c
}
"""By whether it is a cluster's."""
_END_OF_ROWS = b"\n\\.\n"


@dataclass(slots=True)
class _Passing:
    schema: str
    relation: str
    columns: str
    rows: int = 0
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    begun: bool = False
    """Whether its first row has come."""


class ScriptReader:
    """Takes a script piece by piece, one of pg_dumpall's where it is ``of_cluster``; ``take`` gets every table's rows."""

    def __init__(self, *, of_cluster: bool = False, take: Take | None = None) -> None:
        self._of_cluster = of_cluster
        self._take = take
        self._rest = b"\n"
        """What isn't understood yet; a line's end comes first, outside of a table's rows."""
        self.encoding = "UTF8"
        """That of the script, by PostgreSQL's name; of a cluster's, that of the database that is passing."""
        self._database: str | None = None
        self._table: _Passing | None = None
        self._encoding_is_said = False
        self._clusters_codec: str | None = None
        self._known: Collection[tuple[str, str]] | None = None
        self._found: list[TableData] = []
        self.large_objects = False
        """Whether there are some in it. It has transactions of its own for them (``StartRestoreLOs`` in pg_backup_archiver.c)."""

    def expect(self, names: Collection[tuple[str, str]]) -> None:
        """Only tables of these schemas and names are in it: what looks like another's data is text, of a function or a comment."""
        self._known = names

    @property
    def current(self) -> str | None:
        """The table whose rows are passing."""
        return f"{self._table.schema}.{self._table.relation}" if self._table else None

    def write(self, data: bytes) -> None:
        """The next piece."""
        for start in range(0, len(data), _PART):  # what is left is copied at each table
            self._rest += data[start : start + _PART]
            while self._take_rows(self._table) if self._table else self._look_for_table():
                pass

    def finish(self) -> list[TableData]:
        """The tables whose data was in the script, in its order. Raises DumpFailed where it isn't whole."""
        if self._table:
            raise DumpFailed(f"The script is cut short in the data of {self.current}.")
        if _ENDS[self._of_cluster] not in self._rest[-_KEPT:]:
            raise DumpFailed("The script is cut short.")
        if twice := [name for name, times in Counter(map(_name, self._found)).items() if times > 1]:
            raise DumpFailed(
                f"The dump has the data of {'.'.join(filter(None, twice[0]))} twice, unless a function or a comment holds a piece of a dump: "
                "use the directory format."
            )
        return self._found

    def _look_for_table(self) -> bool:
        """Whether to look again."""
        mark = _MARK.search(self._rest)
        if mark is None:
            self._rest = self._rest[-_KEPT:]
            return False
        self._rest = self._rest[mark.start() :]
        end_of_line = self._rest.find(b"\n", 1)
        if end_of_line < 0:
            return False
        if (data := _DATA.match(self._rest)) is not None:
            table = self._begin(data)
            if self._known is None or (table.schema, table.relation) in self._known:
                self._table = table
                self._rest = self._rest[data.end() :]
            else:
                self._rest = self._rest[end_of_line:]
            return True
        if b"; Type: TABLE DATA; " in self._rest[:end_of_line] and len(self._rest) < _LONGEST_HEAD:
            return False  # the COPY statement is still to come
        if not self._encoding_is_said and (encoding := _ENCODING.match(self._rest)) is not None:
            self._encoding_is_said = True
            self.encoding = encoding[1].decode("ascii", "replace")
            self._clusters_codec = self._clusters_codec or python_codec(self.encoding)
        elif self._of_cluster and (database := _DATABASE.match(self._rest)) is not None:
            self._encoding_is_said = False
            self._database = database[1].decode(self._clusters_codec or "utf-8", "backslashreplace")
        elif b"; Type: BLOBS; " in self._rest[:end_of_line]:
            self.large_objects = True
        self._rest = self._rest[end_of_line:]
        return True

    def _begin(self, data: re.Match[bytes]) -> _Passing:
        def text(group: str) -> str:
            return shown(data[group] or b"", self.encoding)

        columns = text("columns")
        if data["by_root"]:  # the statement names another table, to which the rows find back by themselves
            return _Passing(text("namespace"), text("tag"), columns)
        return _Passing(_unquoted(text("schema")), _unquoted(text("name")), columns)

    def _take_rows(self, table: _Passing) -> bool:
        """Whether to look again."""
        if not table.begun:
            if len(self._rest) < len(_END_OF_ROWS):
                return False
            if self._rest.startswith(_END_OF_ROWS[1:]):
                self._end(table, len(_END_OF_ROWS) - 2)
                return True
            table.begun = True
        end = self._rest.find(_END_OF_ROWS)
        self._pass(table, self._rest[: end + 1] if end >= 0 else self._rest[: 1 - len(_END_OF_ROWS)])
        if end < 0:
            self._rest = self._rest[1 - len(_END_OF_ROWS) :]
            return False
        self._end(table, end + len(_END_OF_ROWS) - 1)
        return True

    def _pass(self, table: _Passing, rows: bytes) -> None:
        table.digest.update(rows)
        table.rows += rows.count(b"\n")
        table.size += len(rows)
        if self._take:
            self._take(table.schema, table.relation, rows)

    def _end(self, table: _Passing, length: int) -> None:
        """The table ends after so many bytes of what is left; the end of its last line stays."""
        self._rest = self._rest[length:]
        table.digest.update(COPY_END)
        self._found.append(
            TableData(
                database=self._database,
                schema=table.schema,
                relation=table.relation,
                columns=table.columns,
                rows=table.rows,
                size=table.size + len(COPY_END),
                checksum=table.digest.hexdigest(),
            )
        )
        self._table = None


def _unquoted(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _name(table: TableData) -> tuple[str | None, str, str]:
    return table.database, table.schema_name, table.relation
