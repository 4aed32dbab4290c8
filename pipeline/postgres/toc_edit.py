"""Changes the bytes of a table of contents: chooses entries, gives them other dependencies and IDs, and rewrites their texts."""

from collections.abc import Callable, Collection, Iterable, Mapping
from io import BytesIO
from types import MappingProxyType

from pipeline.errors import InvalidRequest
from pipeline.postgres.encodings import python_codec
from pipeline.postgres.toc import TocEntry
from pipeline.postgres.toc_format import NUMBER, TocReader


def select(
    data: bytes,
    entries: Collection[TocEntry],
    more: Mapping[int, Iterable[int]] = MappingProxyType({}),
    ids: Mapping[int, int] = MappingProxyType({}),
) -> bytes:
    """Return a table of contents that has only these ``entries`` of the table of contents ``data``, in this order.

    ``more`` has further dependencies of an entry, by the entry's dump ID. They come last in each entry, since the first
    dependency of a table's data is its table. ``ids`` has the new dump IDs of entries, by their dump IDs in ``data``. Dependencies on
    entries that aren't selected stay: pg_restore takes them for done.
    """
    reader = TocReader(data)
    selected = BytesIO()  # a list of all parts would take several times the memory
    selected.write(data[: reader.end_of_head] + number(len(entries)))
    for entry in entries:
        others = tuple(more.get(entry.dump_id, ()))
        if not others and ids.keys().isdisjoint((entry.dump_id, *entry.dependencies)):
            selected.write(data[entry.start : entry.end])
            continue
        after = reader.raw_entry(entry.start).end_of_dependencies
        before = after - len(dependency_list(entry.dependencies))
        selected.write(number(ids.get(entry.dump_id, entry.dump_id)))
        selected.write(data[entry.start + NUMBER.size : before])
        selected.write(dependency_list(ids.get(other, other) for other in (*entry.dependencies, *others)))
        selected.write(data[after : entry.end])
    return selected.getvalue()


def rewrite(data: bytes, change: Callable[[TocEntry], TocEntry]) -> bytes:
    """Return the table of contents with changed entries. ``change`` may change tags, definitions, DROP and COPY statements, and owners.

    Raises InvalidRequest if the archive's encoding lacks a character of a changed text.
    """
    reader = TocReader(data)
    encoding = reader.encoding()
    codec = python_codec(encoding)
    parts, copied = list[bytes](), 0
    for before in reader.entries(lambda value: value.decode(codec, "surrogateescape")):
        after = change(before)
        for name, start, end in reader.changeable(before.start) if after is not before else ():
            old, new = getattr(before, name), getattr(after, name)
            if new != old:
                try:
                    value = new.encode(codec, "surrogateescape")
                except UnicodeEncodeError as exc:
                    raise InvalidRequest(
                        f"The archive's encoding, {encoding}, has no character {exc.object[exc.start]!r}, which a new name has."
                    ) from exc
                parts += [data[copied:start], string(value)]
                copied = end
    return b"".join([*parts, data[copied:]])


def number(value: int) -> bytes:
    """Return a number as ``WriteInt`` writes it."""
    return NUMBER.pack(value < 0, abs(value))


def string(value: bytes | None) -> bytes:
    """Return a string as ``WriteStr`` writes it. None and an empty string have different bytes."""
    return number(-1) if value is None else number(len(value)) + value


def dependency_list(dump_ids: Iterable[int]) -> bytes:
    """Return an entry's dependencies, without the string that ends the list."""
    return b"".join(string(str(dump_id).encode()) for dump_id in dump_ids)
