from pathlib import Path

from support.findings import by_subject, problems

from pipeline.check.finding import Severity
from pipeline.check.machine import examine_machine
from pipeline.config import Limits


def test_a_disk_smaller_than_the_spools_limit_is_a_problem(tmp_path: Path) -> None:
    found = problems(examine_machine(Limits(spool=2**60, spool_parent=tmp_path)))
    assert "less than" in found["spool"].sentence


def test_a_missing_spool_folder_is_a_problem(tmp_path: Path) -> None:
    found = problems(examine_machine(Limits(spool_parent=tmp_path / "none")))
    assert list(found) == ["spool"]


def test_limits_above_the_available_memory_are_a_warning() -> None:
    found = by_subject(examine_machine(Limits(memory=2**60)))
    assert found["memory"].outcome is Severity.WARNING


def test_check_leaves_no_files(tmp_path: Path) -> None:
    found = list(examine_machine(Limits(spool_parent=tmp_path)))
    assert not problems(found)
    assert not list(tmp_path.iterdir())
