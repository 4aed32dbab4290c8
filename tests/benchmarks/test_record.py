"""Results are compared turn by turn, and kept in a file from which the pages are made."""

from pathlib import Path

import pytest

from benchmarks import publish, sides
from benchmarks.cases import CASES, RIVAL_RESTORES, RIVALS
from benchmarks.measure import CommandFailedError, Measurement, Spread, measure
from benchmarks.record import Outcome, Record, Result, Target, machine, wall
from benchmarks.report import render, rivals
from benchmarks.runs import alternate
from benchmarks.sides import Side


def _run(wall: float, machine_cpu: float = 1.0) -> Measurement:
    return Measurement(wall, 1.0, machine_cpu, 1 << 20, 0, 0)


@pytest.fixture
def outcome() -> Outcome:
    own = Result(sides.PGSTOW.name, [_run(1.0, 2.0), _run(2.0, 2.0), _run(9.0, 2.0)], puts=3, stored=10)
    other = Result(sides.PIPE.name, [_run(2.0, 1.0), _run(2.0, 2.0), _run(3.0, 4.0)])
    failed = Result(sides.SEQUENTIAL.name, [_run(1.0)], problem="failed: exit status 1")
    skipped = Result(sides.RESTIC.name, problem="skipped: restic not found")
    return Outcome("Backup", [own, other, failed, skipped])


def test_ratios_are_of_the_same_turn(outcome: Outcome) -> None:
    assert outcome.ratio(sides.PGSTOW.name, sides.PIPE.name, wall) == Spread(1.0, 0.5, 3.0)
    assert outcome.ratio(sides.PGSTOW.name, sides.PIPE.name, machine) == Spread(1.0, 0.5, 2.0)


def test_a_side_without_figures_has_no_ratio(outcome: Outcome) -> None:
    assert outcome.ratio(sides.PGSTOW.name, sides.SEQUENTIAL.name, wall) is None
    assert outcome.ratio(sides.PGSTOW.name, "no such side", wall) is None


def test_a_target_shows_its_spread_and_its_verdict() -> None:
    assert (
        Target("a | b", 1.04, 1.05, " s", Spread(1.04, 1.0, 1.1)).line()
        == r"| a \| b | ≤ 1.05 s | 1.04 s (1–1.1) | reached |"
    )
    assert Target("a", 2.0, 1.05).line() == "| a | ≤ 1.05 | 2 | **missed** |"
    assert Target("a", 4391.0, 65536).line() == "| a | ≤ 65,536 | 4,391 | reached |"
    assert Target("a", None, 1.05).line() == "| a | ≤ 1.05 | | not measured |"


def test_a_record_is_the_same_after_a_file(outcome: Outcome, tmp_path: Path) -> None:
    outcome.targets.append(Target("a", 1.0, 2.0, spread=Spread(1.0, 0.5, 3.0)))
    record = Record("make bench", 1.0, ["- Machine: x"], {"backup": outcome})
    record.save(tmp_path / "record.json")
    assert Record.load(tmp_path / "record.json") == record


def test_the_report_says_why_a_side_has_no_figures(outcome: Outcome) -> None:
    report = render(Record("make bench", 0.5, [], {"backup": outcome}))
    assert "| pg_dump -Fc \\| restic | skipped: restic not found |" in report
    assert "| pg_dump -Fd, zstd, aws s3 cp | failed: exit status 1 |" in report
    assert "0.5 of the whole sizes" in report


def test_readmes_table_pairs_each_backup_with_its_restore(outcome: Outcome) -> None:
    restore = Outcome(
        "Restore", [Result(sides.RESTORE.name, [_run(3.0)]), Result(sides.PIPED_RESTORE.name, [_run(4.0)])]
    )
    table = rivals(Record("", 1.0, [], {"rivals-backup": outcome, "rivals-restore": restore}))
    assert table.splitlines()[4:] == [r"| pg_dump -Fc \| zstd \| aws s3 cp | 1.00 | 0.75 |"]


def test_each_turn_begins_with_another_side() -> None:
    order: list[str] = []

    def run(side: Side, result: Result, turn: int) -> None:
        order.append(f"{turn}{side.name}")
        result.runs.append(_run(1.0))

    alternate([Side("a", ""), Side("b", "")], 3, run, major=18)
    assert order == ["0a", "0b", "1b", "1a", "2a", "2b"]


def test_a_side_that_fails_or_cannot_run_has_a_reason_and_no_further_turn() -> None:
    turns: list[str] = []

    def run(side: Side, result: Result, turn: int) -> None:
        turns.append(side.name)
        if side.name == "fails":
            raise CommandFailedError("exit status 3: /a/path")
        result.runs.append(_run(1.0))

    beside = [
        Side("runs", ""),
        Side("fails", ""),
        Side("lacks", "", needs=("no-such-program",)),
        Side("new", "", least_major=16),
    ]
    results = alternate(beside, 2, run, major=15)
    assert [result.problem for result in results] == [
        None,
        "failed: exit status 3",
        "skipped: no-such-program not found",
        "skipped: needs pg_dump 16 or newer",
    ]
    assert turns == ["runs", "fails", "runs"]


def test_the_main_thread_is_measured_apart_from_other_threads(tmp_path: Path) -> None:
    work = "sum(range(10**7))"
    threads = f"[threading.Thread(target=lambda: {work}).start() for _ in range(3)]"
    script = f"import threading, time; {work}; {threads}; time.sleep(2)"  # the sleep lets the sampler look
    cost = measure(f'python3 -c "{script}"', environment={"PATH": "/usr/bin:/bin"}, watched=tmp_path)
    assert 0 < cost.main_thread < cost.cpu


def test_cases_with_the_same_data_follow_each_other() -> None:
    names = [case.data.name for case in CASES.values()]
    assert len({name for name, before in zip(names, [None, *names], strict=False) if name != before}) == len(set(names))
    assert sum(name != before for name, before in zip(names, [None, *names], strict=False)) == len(set(names))


@pytest.mark.skipif(not publish.RECORD.exists(), reason="no benchmarks are published yet")
def test_the_pages_show_the_record() -> None:
    for path, text in publish.pages(Record.load(publish.RECORD)).items():
        assert path.read_text(encoding="utf-8") == text, f"run python -m benchmarks.publish: {path.name} is stale"


@pytest.fixture
def full_record() -> Record:
    def outcome(*beside: Side) -> Outcome:
        return Outcome("A case", [Result(side.name, [_run(1.0)], stored=1) for side in beside], dumped=10**9)

    return Record(
        "make bench",
        1.0,
        [],
        {
            "rivals-backup": outcome(*RIVALS),
            "rivals-restore": outcome(*RIVAL_RESTORES),
            "start": outcome(sides.HELP),
            "one-table-backup": outcome(sides.PGSTOW, sides.DUMP_ALONE),
            "one-table-restore": outcome(sides.SPLIT, sides.FLOOR),
        },
    )


def test_published_pages_change_only_in_their_blocks(full_record: Record) -> None:
    pages = {path.name: text for path, text in publish.pages(full_record).items()}
    assert pages["README.md"].startswith("# pgstow\n")
    assert "| Greenmask | 1.00 | 1.00 |\n<!-- /benchmarks -->" in pages["README.md"]
    model = pages["performance.md"].partition("<!-- model -->")[2].partition("<!-- /model -->")[0]
    assert "bounded by" in model
    assert "## Measure your own" in pages["performance.md"]


def test_readme_is_short_with_a_row_for_each_tool(full_record: Record) -> None:
    [readme] = (text for path, text in publish.pages(full_record).items() if path.name == "README.md")
    assert len(readme.encode()) < 10_000
