"""Tests of the archive's contents: files are described while the dump runs, and judged at its end."""

import json
from collections.abc import Sequence

import pytest
from support.stored_sample import StoredSample

from pipeline.archive.writer import ArchivedFile
from pipeline.backup.contents import Contents
from pipeline.catalog.manifest import TOC_NAME, Segment
from pipeline.errors import DumpFailed
from pipeline.postgres.dump import COPY_END
from pipeline.postgres.toc import DataEntry
from pipeline.stages.pack import unpack
from pipeline.stages.spool import Piece

ROW = b"1\n"


@pytest.fixture
def toc(stored_sample: StoredSample) -> bytes:
    manifest = stored_sample.manifest
    [file] = [file for file in manifest.files if file.path == TOC_NAME]
    return b"".join(
        part
        for segment in file.segments
        for part in unpack(stored_sample.store.get(manifest.objects[segment.object].key), segment, file.path)
    )


def archived(path: str, data: bytes) -> ArchivedFile:
    segments = [Segment(object=0, offset=0, length=9, size=len(data))] if data else []
    return ArchivedFile(path, len(data), data.count(b"\n"), data[-6:], "0" * 64, segments)


def files_of(entries: Sequence[DataEntry]) -> list[ArchivedFile]:
    """Return a file for each entry: a table of one row, or a list without large objects."""
    return [archived(entry.filename, ROW + COPY_END if entry.description == "TABLE DATA" else b"") for entry in entries]


def read(toc: bytes) -> tuple[Contents, list[DataEntry]]:
    found: list[DataEntry] = []
    contents = Contents(found.extend)
    contents.take(Piece(TOC_NAME, 0, toc[:1000], last=False))
    contents.take(Piece(TOC_NAME, 1, toc[1000:], last=True))
    contents.read(0)
    assert contents.reading, "there was no time"
    assert not contents.known
    while contents.reading:
        contents.read(0.001)
    assert contents.known
    return contents, found


def test_files_are_described_as_they_come(toc: bytes) -> None:
    contents, entries = read(toc)
    files = files_of(entries)
    contents.describe([archived(TOC_NAME, toc)])
    contents.describe(files)
    found = {file["path"]: file for file in json.loads(bytes(contents.finish().json()))}
    assert list(found) == [TOC_NAME, *(file.path for file in files)]
    for entry in entries:
        is_table = entry.description == "TABLE DATA"
        file = found[entry.filename]
        assert (file["relation"], file["rows"]) == ((entry.tag, 1) if is_table else (None, None))


@pytest.mark.parametrize("end", [b"", COPY_END[:-1], b"x" + COPY_END])
def test_a_file_that_is_cut_short_fails_only_a_dump_that_reports_success(toc: bytes, end: bytes) -> None:
    """pg_dump's own failure explains more."""
    contents, entries = read(toc)
    files = files_of(entries)
    [at] = [number for number, entry in enumerate(entries) if entry.tag == "customer"]
    files[at] = archived(files[at].path, end)
    contents.describe(files)
    with pytest.raises(DumpFailed, match=r"customer is cut short"):
        contents.finish()


def test_a_file_that_is_missing_fails_the_dump(toc: bytes) -> None:
    contents, entries = read(toc)
    contents.describe(files_of(entries)[1:])
    with pytest.raises(DumpFailed, match=rf"did not write {entries[0].filename} \(1 file missing"):
        contents.finish()
