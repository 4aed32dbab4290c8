import pytest

from benchmarks.profile import kind_of_work


@pytest.mark.parametrize(
    ("program", "library", "kind"),
    [
        ("postgres", "[kernel.kallsyms]", "the server"),
        ("pg_dump", "libc.so.6", "pg_dump"),
        ("zstd", "libzstd.so.1.5.4", "zstd"),
        ("pgstow", "backend_c.cpython-311-x86_64-linux-gnu.so", "zstd"),
        ("aws", "libcrypto.so.3", "hashes"),
        ("pgstow", "[kernel.kallsyms]", "the kernel"),
        ("python", "python3.11", "Python"),
        ("perf", "perf", None),
    ],
)
def test_a_sample_counts_for_one_kind_of_work(program: str, library: str, kind: str | None) -> None:
    assert kind_of_work(program, library) == kind
