"""The archive's table of contents, and the files that it names, during a backup."""

import time
from collections.abc import Callable, Iterable, Sequence

from pipeline.archive.file_list import FileList
from pipeline.archive.writer import ArchivedFile
from pipeline.catalog.manifest import TOC_NAME, File, FileKind
from pipeline.counting import counted
from pipeline.errors import DumpFailed
from pipeline.postgres.dump import COPY_END
from pipeline.postgres.toc import DataEntry
from pipeline.postgres.toc_data import DataEntryReader
from pipeline.stages.spool import Piece


class Contents:
    """Reads ``toc.dat`` while it arrives. Then compares the archive's files with its entries, and describes the files for the manifest.

    Calls ``then`` with the entries whose data have files, once all entries are read.
    """

    def __init__(self, then: Callable[[Sequence[DataEntry]], None]) -> None:
        self._reader = DataEntryReader()
        self._then = then
        self._has_all = False
        """True if all pieces of ``toc.dat`` have come, and some entries aren't read."""
        self.known = False
        """True once all entries are read."""
        self.has_large_objects = False
        """True if an entry has the data of large objects."""
        self._missing: dict[str, DataEntry] = {}
        """The entries whose files haven't come, by the files' names."""
        self._cut_short: DataEntry | None = None
        """The first entry whose data lack the end mark."""
        self._listed = self._present = 0
        """``_listed`` is the number of large objects in the archive's lists. ``_present`` is the number of their files."""
        self._files = FileList()

    @property
    def reading(self) -> bool:
        """True if a piece has come that isn't read."""
        return self._reader.unread

    def take(self, piece: Piece) -> None:
        """Take the next piece of ``toc.dat``."""
        self._reader.take(piece.data)
        self._has_all = piece.last

    def read(self, seconds: float) -> None:
        """Read entries of the pieces that have come, for ``seconds`` at most. Raises DumpFailed if the table of contents can't be read.

        Reading all entries at once may take seconds, and the caller must watch the spool. If another thread read them, each system call of
        the caller's thread would wait for the interpreter's lock.
        """
        deadline = time.monotonic() + seconds
        while self._reader.unread and time.monotonic() < deadline:
            self._reader.step()
        if self._has_all and not self._reader.unread:
            self._has_all = False
            self._keep(self._reader.finish())

    def _keep(self, entries: Sequence[DataEntry]) -> None:
        self._reader = DataEntryReader()  # the old reader holds all entries
        self._missing = {entry.filename: entry for entry in entries}
        self.has_large_objects = any(entry.description == "BLOBS" for entry in entries)
        self.known = True
        self._then(entries)

    def describe(self, files: Iterable[ArchivedFile]) -> None:
        """Take whole files of the archive, in any order. Call this only if :attr:`known` is true."""
        for file in files:
            entry = self._missing.pop(file.path, None)
            if entry and entry.description == "TABLE DATA" and not _is_whole(file):
                self._cut_short = self._cut_short or entry
                continue
            described = _describe(file, entry)
            self._listed += file.lines if described.kind == "large_object_toc" else 0
            self._present += described.kind == "large_object"
            self._files.add(described)

    def finish(self) -> FileList:
        """Return the manifest's list of files, once pg_dump has reported success and all files are described.

        Raises DumpFailed if a file that the table of contents names, a large object, or the end of a table's data is missing.
        """
        if entry := self._cut_short:
            raise DumpFailed(f"pg_dump reported success, but the data of {entry.namespace}.{entry.tag} is cut short.")
        if self._missing:
            raise DumpFailed(
                f"pg_dump reported success but did not write {min(self._missing)} ({counted(len(self._missing), 'file')} missing in all)."
            )
        if self._listed != self._present:
            raise DumpFailed(
                f"pg_dump reported success but wrote {self._present} of {counted(self._listed, 'large object')}."
            )
        return self._files


def _is_whole(file: ArchivedFile) -> bool:
    """True if a table's data end with COPY's end mark."""
    # The end mark must be a line by itself. A value that ends with \. is written as \\. in the file. After such a value, rows of empty text
    # look like the empty lines of the end mark.
    return file.tail.removeprefix(b"\n") == COPY_END


def _describe(file: ArchivedFile, entry: DataEntry | None) -> File:
    if entry is None:
        kind: FileKind = "toc" if file.path == TOC_NAME else "large_object"
        return File(path=file.path, kind=kind, size=file.size, checksum=file.checksum, segments=tuple(file.segments))
    is_table = entry.description == "TABLE DATA"
    return File(
        path=file.path,
        kind="table" if is_table else "large_object_toc",
        size=file.size,
        checksum=file.checksum,
        segments=tuple(file.segments),
        dump_id=entry.dump_id,
        schema_name=entry.namespace if is_table else None,
        relation=entry.tag if is_table else None,
        rows=file.lines - COPY_END.count(b"\n") if is_table else None,
    )
