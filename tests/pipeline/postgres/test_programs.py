import sys
from pathlib import Path

import pytest

from pipeline.errors import ProgramMissing
from pipeline.postgres import programs
from pipeline.postgres.programs import find_program, major_of, parse_version


def install(directory: Path, name: str, answer: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / name
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    return program


def install_version(root: Path, version: str, name: str = "pg_dump") -> Path:
    return install(root / version / "bin", name, f"echo '{name} (PostgreSQL) {version} (Debian {version}-1.pgdg12+1)'")


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without PostgreSQL. PATH and the usual places of packages are directories of the test."""
    monkeypatch.setattr(programs, "USUAL_PLACES", (f"{tmp_path.relative_to('/')}/lib/*/bin",))
    monkeypatch.setattr(programs, "PYPI_PACKAGE", "packaged_postgres")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", (15, "15.18")),
        ("pg_dump (PostgreSQL) 18beta1\n", (18, "18beta1")),
        ("pg_dump (PostgreSQL) 19devel\n", (19, "19devel")),
        ("pg_restore (PostgreSQL) 17.2 - Percona Server for PostgreSQL 17.2.1\n", (17, "17.2")),
        ("pg_dump (EnterpriseDB) 16.4.1\n", (16, "16.4.1")),
        ("pg_dump (PostgreSQL) 9.6.24\n", (9, "9.6.24")),
        ("bash: pg_dump: command not found\n", None),
        ("", None),
    ],
)
def test_the_version_is_read_from_a_programs_output(output: str, expected: tuple[int, str] | None) -> None:
    assert parse_version(output) == expected


@pytest.mark.parametrize(
    ("server", "chosen"),
    [(15, "15.18"), (14, "15.18"), (16, "18.1"), (17, "18.1"), (18, "18.1"), (19, "19devel")],
)
def test_the_servers_major_version_is_chosen_or_else_the_lowest_newer_one(
    tmp_path: Path, server: int, chosen: str
) -> None:
    paths = [install_version(tmp_path, version) for version in ("19devel", "13.9", "18.1", "15.18")]

    program = find_program("pg_dump", at_least_major=server, search=[path.parent for path in paths])

    assert program.version == chosen
    assert program.path == tmp_path / chosen / "bin" / "pg_dump"


@pytest.mark.parametrize(("version", "major"), [("15.18", 15), ("18.1 (Debian 18.1-1)", 18), ("19beta1", 19), ("9", 9)])
def test_the_major_version_is_read_from_any_version(version: str, major: int) -> None:
    assert major_of(version) == major


def test_programs_after_one_of_the_servers_version_are_not_run(tmp_path: Path) -> None:
    first, second = install_version(tmp_path, "13.9"), install_version(tmp_path, "15.18")
    last = install(tmp_path / "16" / "bin", "pg_dump", f"touch {tmp_path}/run")

    found = find_program("pg_dump", at_least_major=15, search=[path.parent for path in (first, second, last)])

    assert found.path == second
    assert not (tmp_path / "run").exists()


def test_older_programs_are_not_chosen(tmp_path: Path) -> None:
    search = [install_version(tmp_path, version).parent for version in ("14.1", "15.18")]

    with pytest.raises(ProgramMissing) as caught:
        find_program("pg_dump", at_least_major=17, search=search)

    assert "pg_dump of PostgreSQL 17 or newer" in str(caught.value)
    assert "only 14.1, 15.18" in str(caught.value)
    assert "postgresql-client-17" in str(caught.value)


def test_the_error_names_the_package_with_the_servers_programs(bare_machine: Path) -> None:
    with pytest.raises(ProgramMissing, match=r"there is none on this machine.*package: postgresql-16\)"):
        find_program("initdb", at_least_major=16)


def test_only_the_named_directories_are_searched(bare_machine: Path) -> None:
    install_version(bare_machine / "lib", "15.18")

    with pytest.raises(ProgramMissing, match=r"there is none in \S+/elsewhere"):
        find_program("pg_dump", at_least_major=15, search=[bare_machine / "elsewhere"])


def test_packages_places_come_before_path(bare_machine: Path) -> None:
    install(bare_machine / "path", "pg_dump", "echo 'pg_dump (PostgreSQL) 15.1'")
    packaged = install_version(bare_machine / "lib", "15.18")

    assert find_program("pg_dump", at_least_major=15).path == packaged


def test_path_is_searched(bare_machine: Path) -> None:
    install_version(bare_machine / "lib", "15.18")
    built = install(bare_machine / "path", "pg_dump", "echo 'pg_dump (PostgreSQL) 17.0'")

    assert find_program("pg_dump", at_least_major=16).path == built


def test_debians_wrapper_is_skipped(bare_machine: Path) -> None:
    wrapper = install(bare_machine / "wrapper", "pg_wrapper", "echo 'pg_dump (PostgreSQL) 15.18'")
    (bare_machine / "path").mkdir()
    (bare_machine / "path" / "pg_dump").symlink_to(wrapper)

    with pytest.raises(ProgramMissing):
        find_program("pg_dump", at_least_major=15)


def test_the_python_package_is_found_without_an_import(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = bare_machine / "site" / "packaged_postgres"
    program = install(package / "pginstall" / "bin", "pg_dump", "echo 'pg_dump (PostgreSQL) 16.2'")
    (package / "__init__.py").write_text("raise RuntimeError('started something')\n")
    monkeypatch.syspath_prepend(bare_machine / "site")

    assert find_program("pg_dump", at_least_major=15).path == program
    assert "packaged_postgres" not in sys.modules


@pytest.mark.parametrize("answer", ["exit 1", "echo nonsense"])
def test_a_program_that_does_not_run_is_skipped(tmp_path: Path, answer: str) -> None:
    broken = install(tmp_path / "broken", "pg_dump", answer)
    sound = install_version(tmp_path, "16.2")

    assert find_program("pg_dump", at_least_major=15, search=[broken.parent, sound.parent]).path == sound
    with pytest.raises(ProgramMissing, match=f"{broken} does not run"):
        find_program("pg_dump", at_least_major=15, search=[broken.parent])


def test_this_machines_programs_are_found() -> None:
    program = find_program("pg_dump", at_least_major=12)

    assert program.path.is_absolute()
    assert program.major >= 12
