"""Writes archives of pg_dump's custom format, which pg_restore reads from a pipe.

The format is PostgreSQL's: ``src/bin/pg_dump/pg_backup_custom.c``. The data of an entry is a block, and a block has parts of any size. So
the size of the data may be unknown until the data ends.
"""

from collections.abc import Collection, Iterable, Iterator

from pipeline.postgres.toc import TocEntry
from pipeline.postgres.toc_edit import number
from pipeline.postgres.toc_format import TocReader

_FORMAT_AT = 10
"""The offset of the format in the head of a table of contents."""
_CUSTOM = b"\x01"
"""``archCustom`` in ``pg_backup_archiver.h``."""
_HAS_DATA, _HAS_NO_DATA = b"\x01", b"\x03"
"""``K_OFFSET_POS_NOT_SET`` and ``K_OFFSET_NO_DATA`` in ``pg_backup_archiver.h``. pg_restore searches for data whose offset isn't set."""
_ROWS, _LARGE_OBJECTS = b"\x01", b"\x03"
"""``BLK_DATA`` and ``BLK_BLOBS`` in ``pg_backup_archiver.h``."""
_END = number(0)
"""The end of a block, or of a large object."""


def custom_toc(data: bytes, entries: Collection[TocEntry]) -> bytes:
    """Return the beginning of an archive that has only these ``entries`` of the table of contents ``data``, in this order.

    ``data`` is of the directory format. If an entry has a file there, it has a block in the archive. The blocks must follow in the order of the
    entries.
    """
    reader = TocReader(data)
    parts = [data[:_FORMAT_AT], _CUSTOM, data[_FORMAT_AT + 1 : reader.end_of_head], number(len(entries))]
    offset = bytes(reader.offset_size)
    for entry in entries:
        parts.append(data[entry.start : entry.end - len(number(0)) - len(entry.filename)])
        parts.append((_HAS_DATA if entry.filename else _HAS_NO_DATA) + offset)
    return b"".join(parts)


def rows_block(dump_id: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the block of a table's entry. ``parts`` has the table's data."""
    yield _ROWS + number(dump_id)
    yield from _data(parts)


def large_objects_block(dump_id: int, large_objects: Iterable[tuple[int, Iterable[bytes]]]) -> Iterator[bytes]:
    """Yield the block of an entry that has large objects. Each large object has an OID and its data."""
    yield _LARGE_OBJECTS + number(dump_id)
    for oid, parts in large_objects:
        yield number(oid if oid < 2**31 else oid - 2**32)  # pg_restore reads an OID as a signed number
        yield from _data(parts)
    yield _END


def _data(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        if part:  # a part of no bytes is the end
            yield number(len(part))
            yield part
    yield _END
