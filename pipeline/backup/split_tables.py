"""Dumps large tables in ranges, by several sessions at the same time, while pg_dump dumps the other tables.

The ranges of a table become one file of the archive. It has the same bytes as the file that pg_dump would have written. The archive's table
of contents gets the entries that pg_dump would have written for these tables.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from pipeline.archive.dump_context import DumpContext
from pipeline.backup.dump_shares import DumpShares
from pipeline.backup.range_joiner import Range, RangeJoiner
from pipeline.catalog.manifest import TOC_NAME
from pipeline.config import MIB, Limits
from pipeline.postgres.dump import DirectoryDump
from pipeline.postgres.range_session import RangeSession, Rows
from pipeline.postgres.table_ranges import RangedTable, lock_tables, range_statement
from pipeline.postgres.toc_tables import add_table_data, archive_encoding
from pipeline.stages.spool import Piece

_MOST_MEMORY = 6 * MIB
"""The most bytes of memory for the rows that a session has read."""
_MOST_PER_READ = MIB
"""The most bytes to read at once."""
_LEAST_PER_READ = 64 * 1024
_LEAST_RANGE = 256 * 1024
"""The least average size of a range, in bytes."""
_AHEAD = 2
"""The ranges that a session has to dump. With two, the server goes on while pgstow reads the end of the first."""


@dataclass(slots=True)
class _Session:
    psql: RangeSession
    begun: bool = False
    """True once the session has its snapshot and its locks."""
    reading: bool = False
    """True while a thread reads rows."""
    ranges: deque[Range] = field(default_factory=deque)
    """The ranges of the session that have rows in memory, or to come."""

    @property
    def to_come(self) -> list[Range]:
        """The ranges that haven't ended. The first is in progress."""
        return [one for one in self.ranges if not one.ended]


class SplitTables:
    """The tables of ``shares`` in a dump. If there are none, the methods do nothing.

    pg_dump leaves out the rows of these tables. Pass each piece of its output to :meth:`completed`. Once the table of contents is whole,
    pg_dump has locked all tables, and :meth:`look` starts sessions.

    Each session holds a limited number of bytes in memory. The rows leave in the order of the file. So the session whose rows come next passes
    them on at once, and the others wait when they hold enough. ``workers.collect`` takes the rows from the threads that read.
    """

    def __init__(
        self, shares: DumpShares, dump: DirectoryDump, snapshot: str, context: DumpContext, limits: Limits
    ) -> None:
        self._shares, self._dump, self._snapshot, self._context = shares, dump, snapshot, context
        quarter = limits.quarter(context.seal.copies)
        self._memory = min(_MOST_MEMORY, (quarter - context.piece_size) // shares.jobs)
        """The most bytes of rows in memory for each session. The session whose rows come next may have a piece more."""
        self._at_once = min(_MOST_PER_READ, max(_LEAST_PER_READ, self._memory // 4))
        self._toc = bytearray()
        self._names: Sequence[str] = ()
        """The tables, quoted."""
        self._upcoming: Iterator[Range] = iter(())
        self._next: Range | None = None
        """The next range that no session has."""
        self._joiner = RangeJoiner(context.piece_size)
        self._sessions: list[_Session] = []
        """The sessions that have ranges to dump, or will have."""
        self._done: list[_Session] = []
        """The sessions that have dumped their last range."""
        self._refused = False
        """True if a session could not begin, although others had. No further session is started."""
        if shares.tables:
            context.writer.reserve(shares.jobs * self._memory + context.piece_size)
            self._reading = context.workers.pool(shares.jobs, "ranges")

    @property
    def unfinished(self) -> bool:
        """True if rows are still to come, or wait for the writer. False before the table of contents is whole."""
        return self._next is not None or self._joiner.unfinished

    @property
    def current(self) -> Sequence[str]:
        """The file whose rows come next; empty if there is none."""
        return [self._joiner.file] if self._joiner.file else []

    def completed(self, piece: Piece) -> Sequence[Piece]:
        """Return the pieces to write instead of a piece of pg_dump's output. All pieces of the table of contents come with its last piece.

        Raises DumpFailed if the table of contents lacks a table, DumpInterrupted if another session waits for a lock on a table, or
        ConnectionFailed.
        """
        if not self._shares.tables or piece.name != TOC_NAME:
            return [piece]
        self._toc += piece.data
        if not piece.last:
            return []
        self._dump.pause_if(True)  # the caller can't watch the spool meanwhile; it lets pg_dump go on afterwards
        toc, size = self._begin(bytes(self._toc)), self._context.piece_size
        self._toc.clear()
        starts = range(0, len(toc), size)
        return [Piece(TOC_NAME, start // size, toc[start : start + size], start == starts[-1]) for start in starts]

    def look(self, *, pg_dump_ended: bool) -> None:
        """Start the sessions that may run now, and raise the failure of a session that has ended.

        If a session can't begin and others can, the others dump its ranges.
        """
        may_run = self._shares.jobs if pg_dump_ended else self._shares.jobs - self._shares.of_pg_dump
        while self._next is not None and len(self._sessions) < may_run and not self._refused:
            self._start_session()
        for session in list(self._sessions):
            if (failure := session.psql.failure()) is None:
                continue
            self._sessions.remove(session)
            self._done.append(session)
            if session.begun or (self._next is not None and not self._sessions):
                raise failure
            self._refused = True

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces whose rows have come, while the writer has room for them."""
        while (size := self._joiner.next_size()) is not None and self._context.writer.has_room(size):
            yield self._joiner.cut(size)
            self._go_on_all()

    def close(self) -> None:
        """End all sessions."""
        for session in (*self._sessions, *self._done):
            session.psql.close()

    def _begin(self, toc: bytes) -> bytes:
        """Lock the tables, and return the table of contents with the entries of their data."""
        encoding = archive_encoding(toc)
        oids = [table.oid for table in self._shares.tables]
        tables = lock_tables(self._context.call.server, oids, encoding, quote_all=self._shares.quote_all)
        extended = add_table_data(toc, {table.oid: table.copy_statement for table in tables})
        files = extended.files
        tables = [table for table in tables if table.oid in files]
        self._names = [table.name for table in tables]
        self._upcoming = (one for table in tables for one in self._ranges(table, files[table.oid], encoding))
        self._next = next(self._upcoming, None)
        return extended.data

    def _ranges(self, table: RangedTable, file: str, encoding: str) -> Iterator[Range]:
        server = self._context.call.server
        for first, end in table.ranges(max(_LEAST_RANGE, self._memory * 2 // 3)):
            statement = server.encoded(range_statement(table, first, end, encoding)).as_bytes()
            yield Range(file, bytes(statement), last=end is None)

    def _start_session(self) -> None:
        if self._shares.psql is None:
            raise AssertionError("tables are split only if there is a psql")
        psql = RangeSession(
            self._dump, self._context.call, self._shares.psql, snapshot=self._snapshot, tables=self._names
        )
        self._sessions.append(session := _Session(psql))
        self._go_on(session)

    def _go_on_all(self) -> None:
        for session in list(self._sessions):
            self._go_on(session)

    def _go_on(self, session: _Session) -> None:
        """Give the session ranges to dump, and read its rows if it may hold more. Let it end if no range is left."""
        while session.ranges and session.ranges[0].ended and not session.ranges[0].held:
            session.ranges.popleft()
        while session.begun and self._next is not None and len(session.to_come) < _AHEAD:
            session.psql.send(self._next.statement)
            session.ranges.append(self._next)
            self._joiner.add(self._next)
            self._next = next(self._upcoming, None)
        if session.begun and not session.to_come:
            session.psql.finish()
            self._sessions.remove(session)
            self._done.append(session)
            return
        if not session.reading and self._may_hold_more(session):
            session.reading = True
            self._reading.submit(partial(session.psql.read, self._at_once), partial(self._take, session))

    def _may_hold_more(self, session: _Session) -> bool:
        if not session.begun or sum(one.held for one in session.ranges) + self._at_once <= self._memory:
            return True
        return session.to_come[0] is self._joiner.current and self._joiner.next_size() is None

    def _take(self, session: _Session, rows: Rows) -> None:
        session.reading = False
        if rows.closed or session not in self._sessions:
            return  # look() raises the failure
        if session.begun:
            session.to_come[0].put_in(rows)
        session.begun = session.begun or rows.ended
        self._go_on_all()
