import tracemalloc

import pytest

from pipeline.errors import BackupDamaged
from pipeline.postgres.large_object_list import read_large_object_list


def test_a_list_of_large_objects_names_their_files_and_nothing_else() -> None:
    files = ("blob_16403.dat", "blob_16404.dat")
    assert read_large_object_list("blobs.toc", b"16403 blob_16403.dat\n16404 blob_16404.dat\n", files) == files
    for line in (
        b"16403",
        b"",
        b"16403 ../blob_1.dat",
        b"1 /etc/passwd",
        b"1 blob_\xff.dat",
        b"1 toc.dat",
        b"0 blob_0.dat",
        b"1 blob_4294967296.dat",
        b"9" * 5000 + b" x",
    ):
        with pytest.raises(BackupDamaged, match="large objects"):
            read_large_object_list("blobs.toc", line + b"\n", files)
    for line, problem in ((b"1 blob_1.dat", "names no such file"), (b"16403 blob_16403.dat", "twice")):
        long = b"%b\n" % line * 200_000
        tracemalloc.start()
        with pytest.raises(BackupDamaged, match=problem):
            read_large_object_list("blobs.toc", long, files)
        assert tracemalloc.get_traced_memory()[1] < len(long)
        tracemalloc.stop()
