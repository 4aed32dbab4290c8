"""Tests of the textfile, read as Prometheus reads it."""

import itertools
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from support.shelf import SOURCE

from pipeline.catalog.attestation import Level
from pipeline.catalog.manifest import Compression, Manifest, Totals
from pipeline.catalog.origin import DumpOptions
from pipeline.errors import DumpFailed
from pipeline.nightly.metrics import Past, read_past, write_textfile
from pipeline.nightly.outcome import JobResult

MOMENT = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)


def manifest(rows: int) -> Manifest:
    return Manifest(
        backup_id="20261125T023000Z-7f3a9c",
        cluster="prod",
        database="shop",
        kind="database",
        tool="pgstow",
        started_at=MOMENT - timedelta(seconds=90),
        snapshot_at=MOMENT - timedelta(seconds=80),
        finished_at=MOMENT,
        source=SOURCE,
        dump=DumpOptions(format="directory", jobs=1, only=None),
        compression=Compression(algorithm="zstd", level=3),
        files=[],
        objects=[],
        totals=Totals(files=3, tables=2, rows=rows, size=2**40 + 1, objects=7, stored_size=5000),
        durations={},
        previous=None,
    )


def good(database: str = "shop", destination: str = "nas", *, rows: int = 5, level: Level | None = None) -> JobResult:
    return JobResult(database, destination, MOMENT, manifest(rows), level)


def bad(database: str = "shop", destination: str = "nas", *, hours: int = 24) -> JobResult:
    return JobResult(database, destination, MOMENT + timedelta(hours=hours), error=DumpFailed("It failed."))


def samples(path: Path) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values by metric and by its labels' values. Fails if the collector would refuse the file."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(path.read_text("utf-8")):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            assert sample.timestamp is None, "the collector refuses files with timestamps"
            values = found.setdefault(sample.name, {})
            labels = tuple(sample.labels.values())
            assert labels not in values
            values[labels] = sample.value
    return found


def values(path: Path, pair: tuple[str, str] = ("shop", "nas")) -> Mapping[str, float]:
    return {
        name.removeprefix("pgstow_"): value
        for name, by_labels in samples(path).items()
        for labels, value in by_labels.items()
        if labels[:2] == pair
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pgstow.prom"


def test_the_file_has_the_metrics_of_a_good_run(path: Path) -> None:
    write_textfile(path, [good(level=Level.ARCHIVE)], [("shop", "nas")])
    assert values(path) == {
        "last_attempt_timestamp_seconds": MOMENT.timestamp(),
        "last_attempt_success": 1,
        "last_success_timestamp_seconds": MOMENT.timestamp(),
        "snapshot_timestamp_seconds": MOMENT.timestamp() - 80,
        "backup_duration_seconds": 90,
        "dumped_bytes": 2**40 + 1,
        "stored_bytes": 5000,
        "objects": 7,
        "tables": 2,
        "rows": 5,
        "retained_until_timestamp_seconds": 0,
        "last_verified_timestamp_seconds": MOMENT.timestamp(),
    }
    assert list(samples(path)["pgstow_last_verified_timestamp_seconds"]) == [("shop", "nas", "archive")]


def test_the_file_says_until_when_the_last_backup_is_locked(path: Path) -> None:
    until = MOMENT + timedelta(days=30)
    locked = JobResult("shop", "nas", MOMENT, manifest(5).model_copy(update={"retained_until": until}))
    write_textfile(path, [locked], [("shop", "nas")])
    assert values(path)["retained_until_timestamp_seconds"] == until.timestamp()
    write_textfile(path, [good()], [("shop", "nas")])
    assert values(path)["retained_until_timestamp_seconds"] == 0


def test_the_metrics_of_the_last_success_stay_after_a_failed_run(path: Path) -> None:
    known = [("shop", "nas")]
    write_textfile(path, [good(level=Level.BYTES)], known)
    before = values(path)
    write_textfile(path, [bad()], known)
    assert read_past(path) == {("shop", "nas"): Past(good=False, last_success=MOMENT)}
    later = (MOMENT + timedelta(hours=24)).timestamp()
    assert values(path) == {**before, "last_attempt_timestamp_seconds": later, "last_attempt_success": 0}
    write_textfile(path, [good(rows=6, level=Level.RESTORE)], known)
    assert values(path) == {**before, "rows": 6}
    assert list(samples(path)["pgstow_last_verified_timestamp_seconds"]) == [("shop", "nas", "restore")]


def test_a_run_of_some_databases_keeps_the_metrics_of_others_and_drops_unknown_pairs(path: Path) -> None:
    pairs = [("shop", "nas"), ("shop", "offsite"), ("server", "nas")]
    write_textfile(path, [good(*pair) for pair in pairs], pairs)
    write_textfile(path, [bad("shop", "nas")], pairs[:2])
    assert samples(path)["pgstow_last_attempt_success"] == {("shop", "nas"): 0, ("shop", "offsite"): 1}


def test_a_backup_that_is_not_good_does_not_count_as_success(path: Path) -> None:
    made = JobResult("shop", "nas", MOMENT, manifest(5), error=DumpFailed("The verification failed."))
    write_textfile(path, [made], [("shop", "nas")])
    assert values(path)["last_success_timestamp_seconds"] == 0
    assert read_past(path) == {("shop", "nas"): Past(good=False, last_success=None)}
    assert values(path)["rows"] == 5


def test_the_file_is_replaced_at_once_and_everybody_may_read_it(path: Path) -> None:
    path.write_text('pgstow_last_success_timestamp_seconds{database="a",destination="b"} 1e300\n')
    assert read_past(path) == {("a", "b"): Past(good=True, last_success=None)}
    path.write_text('garbage\npgstow_rows{database="shop"} x\n')
    before = path.stat().st_ino
    with path.open() as reader:
        write_textfile(path, [good()], [("shop", "nas")])
        assert reader.read().startswith("garbage")
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_textfile(tmp_path / "none" / "pgstow.prom", [], [])


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1) | st.sampled_from(
    ['a"b', "a\\", "\\n", "{}", "ä ö"]
)


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=3, unique=True))
def test_any_names_can_be_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("textfile") / "pgstow.prom"
    write_textfile(path, [good(*pair, rows=number) for number, pair in enumerate(pairs)], pairs)
    for outcomes in itertools.repeat([], 2):
        write_textfile(path, outcomes, pairs)
    assert samples(path)["pgstow_rows"] == {pair: number for number, pair in enumerate(pairs)}
