import pytest

from pipeline.errors import BackupDamaged
from pipeline.postgres.large_objects import files_by_list
from pipeline.postgres.toc import Section, Toc, TocEntry

FILES = ("blob_16403.dat", "blob_16404.dat", "blob_4294967295.dat")


def entry(
    dump_id: int, description: str, filename: str = "", definition: str = "", needs: int | None = None
) -> TocEntry:
    return TocEntry(
        dump_id=dump_id,
        oid=0,
        description=description,
        section=Section.DATA,
        namespace="",
        tag="",
        filename=filename,
        dependencies=() if needs is None else (needs,),
        owner="",
        definition=definition,
        drop_statement="",
        copy_statement="",
    )


def toc(*lists: str) -> Toc:
    """Return the table of contents of pg_dump 17, which has several lists of large objects. Each of ``lists`` has the OIDs of one list."""
    metadata = [entry(2 * n, "BLOB METADATA", definition=oids) for n, oids in enumerate(lists, start=1)]
    data = [entry(2 * n + 1, "BLOBS", f"blobs_{2 * n + 1}.toc", needs=2 * n) for n in range(1, len(lists) + 1)]
    return Toc("17.0", (*metadata, *data))


def test_a_single_list_names_all_large_objects() -> None:
    single = Toc("16.0", (entry(1, "BLOB"), entry(2, "BLOBS", "blobs.toc")))
    assert files_by_list(single, reversed(FILES)) == {"blobs.toc": FILES}
    assert files_by_list(single, ()) == {"blobs.toc": ()}
    assert files_by_list(Toc("16.0", ()), FILES) == {}


def test_the_table_of_contents_divides_the_large_objects_among_several_lists() -> None:
    lists = files_by_list(toc("16403\n4294967295\n", "16404\n"), FILES)
    assert lists == {"blobs_3.toc": (FILES[0], FILES[2]), "blobs_5.toc": (FILES[1],)}


@pytest.mark.parametrize(
    "lists", [("16403\n1\n",), ("16403\n", "16403\n"), ("16403\n16403\n",), ("../x",), ("9" * 5000,)]
)
def test_a_large_object_without_a_file_of_its_own(lists: tuple[str, ...]) -> None:
    with pytest.raises(BackupDamaged, match=r"^.{1,250}$"):
        files_by_list(toc(*lists), FILES)


@pytest.mark.parametrize("name", ["blob_0.dat", "blob_4294967296.dat", "blob_\u0663.dat", "toc.dat", "x" * 5000])
def test_a_file_that_holds_no_large_object(name: str) -> None:
    with pytest.raises(BackupDamaged, match=r"^The manifest calls .{1,100} a large object\.$"):
        files_by_list(toc("16403"), (*FILES, name))
