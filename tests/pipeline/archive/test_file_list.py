"""Tests of the manifest's list of files."""

import json
import tracemalloc

import pytest

from pipeline.archive.file_list import FileList
from pipeline.catalog.manifest import LISTS, File, Segment, StoredObject
from pipeline.catalog.plausibility import Contents

SHA = "0" * 64


def file(path: str, *sizes: int, **more: object) -> File:
    """Return a file with one segment of each size. Segments lie one after another in the first object."""
    segments = [Segment(object=0, offset=10 * at, length=10, size=size) for at, size in enumerate(sizes)]
    content = {"kind": "large_object", **more}
    return File(path=path, size=sum(sizes), checksum=SHA, segments=tuple(segments), **content)  # type: ignore[arg-type]


def objects(size: int) -> list[StoredObject]:
    return [StoredObject(key="data/c/d/x/1", size=size, sha256=SHA, checksum=None, version=None)]


def test_the_json_is_that_of_the_manifest() -> None:
    files = [
        file("toc.dat", 5, kind="toc"),
        file("1.dat", 3, 4, kind="table", schema="ü", relation='a"\\b', rows=2, dump_id=7),
        file("blob_1.dat"),
    ]
    found = FileList(iter(files))
    assert bytes(found.json()) == LISTS["files"].dump_json(files)
    assert (found.number, found.tables, found.rows, found.size) == (3, 1, 2, 12)
    assert found.contents(tables=False) == Contents.of(files, tables=False)


@pytest.mark.parametrize("number", [0, 1, 499, 500, 501, 1000, 1700])
def test_a_list_of_any_length(number: int) -> None:
    """The list is made and compressed in batches."""
    files = [file(f"blob_{oid}.dat", oid) for oid in range(number)]
    found = FileList(files)
    assert bytes(found.json()) == bytes(found.json()) == LISTS["files"].dump_json(files)
    found.add(file("toc.dat", 5, kind="toc"))
    assert len(json.loads(bytes(found.json()))) == found.number == number + 1


def test_a_long_list_takes_little_memory() -> None:
    found = FileList([file(f"blob_{oid}.dat", oid) for oid in range(500)])
    tracemalloc.start()
    try:
        for oid in range(10_000):
            found.add(file(f"blob_{oid}.dat", oid))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100 * 10_000 < len(found.json())


def test_no_files() -> None:
    assert json.loads(bytes(FileList().json())) == []
    assert not FileList().contents(tables=False).names_tables
    assert FileList().contents(tables=True).names_tables


def test_segments_must_fit() -> None:
    found = FileList([file("1.dat", 3, 4)])
    found.check_objects(objects(20))
    for stored in (objects(19), []):
        with pytest.raises(ValueError, match="beyond the end"):
            found.check_objects(stored)
    wrong = File(path="1.dat", kind="table", size=5, checksum=SHA, segments=file("1.dat", 4).segments)
    with pytest.raises(ValueError, match="add up"):
        FileList([wrong])
