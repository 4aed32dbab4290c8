"""The list of a dump's files, as the manifest has it."""

from collections.abc import Iterable, Sequence

from pydantic import TypeAdapter

from pipeline.catalog.manifest import File, StoredObject
from pipeline.catalog.plausibility import Contents

_FILE = TypeAdapter(File)


class FileList:
    """The canonical JSON of the files' descriptions, and their totals. It takes less memory than the descriptions themselves.

    Takes the files one by one. Raises ValueError if a file's segments don't add up to its size.
    """

    def __init__(self, files: Iterable[File] = ()) -> None:
        self.number = 0
        """The number of files."""
        self.tables = 0
        """The number of files that are tables."""
        self.rows = 0
        """The number of rows in these tables."""
        self.size = 0
        """Uncompressed bytes of all files."""
        self._not_empty = 0
        self._has_toc = False
        self._ends: dict[int, int] = {}
        """For each object, the offset after its last segment."""
        self._json = bytearray(b"[")
        for file in files:
            self._add(file)
        self._json += b"]"

    @property
    def json(self) -> memoryview:
        """The canonical JSON of the list."""
        return memoryview(self._json)

    def contents(self, *, tables: bool) -> Contents:
        """Return the facts that readers judge. ``tables`` is true if the manifest has a list of tables besides the files."""
        return Contents(
            has_files=self.number > 0,
            is_one_file=self.number == self._not_empty == 1,
            has_toc=self._has_toc,
            names_tables=tables or self.tables > 0,
        )

    def check_objects(self, objects: Sequence[StoredObject]) -> None:
        """Raise ValueError unless the files' segments lie in these objects."""
        for number, end in self._ends.items():
            if number >= len(objects) or end > objects[number].size:
                raise ValueError(f"a file reaches beyond the end of the object {number}")

    def _add(self, file: File) -> None:
        self._json += b"," if self.number else b""
        self._json += _FILE.dump_json(file)
        self.number += 1
        self.tables += file.kind == "table"
        self.rows += file.rows or 0
        self.size += file.size
        self._not_empty += file.size > 0
        self._has_toc |= file.kind == "toc" and file.size > 0
        size = 0
        for segment in file.segments:
            size += segment.size
            self._ends[segment.object] = max(self._ends.get(segment.object, 0), segment.offset + segment.length)
        if size != file.size:
            raise ValueError(f"the segments of {file.path} do not add up to its size")
