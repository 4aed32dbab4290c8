"""The list of a dump's files, as the manifest has it."""

from collections.abc import Iterable, Sequence

from pipeline.catalog.manifest import LISTS, File, StoredObject
from pipeline.catalog.plausibility import Contents
from pipeline.stages.compress import Compressor, decompress

_BATCH = 500
"""The number of files whose JSON is made and compressed at once: about 150 KB of JSON, which takes a millisecond."""
_LEVEL = 1
"""zstd's level. It compresses a file's JSON from about 300 bytes to about 50, most of which are for the SHA-256."""


class FileList:
    """The files' descriptions, and their totals. The descriptions are kept as compressed JSON, since a dump may have a million files."""

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
        self._compressor = Compressor(_LEVEL)
        self._batch: list[File] = []
        self._frames = bytearray()
        """Compressed JSON of all files that aren't in ``_batch``, with a comma before each file. It is one bytearray, since zstandard gives a
        frame as much memory as its content has."""
        for file in files:
            self.add(file)

    def json(self) -> memoryview:
        """Return the canonical JSON of the list."""
        self._compress_batch()
        json = bytearray()
        for part in decompress(memoryview(self._frames), "the list of files"):
            json += part
        json[:1] = b"["
        json += b"]"
        return memoryview(json)

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

    def add(self, file: File) -> None:
        """Add a file at the end of the list. Raises ValueError if its segments don't add up to its size."""
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
        self._batch.append(file)
        if len(self._batch) >= _BATCH:
            self._compress_batch()

    def _compress_batch(self) -> None:
        if self._batch:
            self._frames += self._compressor.frame(b"," + LISTS["files"].dump_json(self._batch)[1:-1])
            self._batch = []
