"""Tests that a user who follows the advice of errors gets a restore or a final error. No advice leads back to an earlier error."""

import itertools
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipeline.catalog.origin import Source
from pipeline.errors import InvalidRequest, ProgramMissing
from pipeline.postgres.programs import Program
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.restore.compatibility import check_server, find_restorer

MAJORS = range(14, 19)


@dataclass(frozen=True)
class Attempt:
    """A restore by a user who has these programs and follows the advice of errors."""

    server: int
    source: Source
    format: str
    programs: frozenset[int]
    flags: frozenset[str] = field(default_factory=frozenset)

    def restore(self, root: Path) -> int:
        """Return the major version of the program that restores. Raises as the restore does."""
        server = Program(root, self.server, f"{self.server}.3")
        going_on = "--keep-going" in self.flags
        check_server(server, self.source, self.format, allow_older="--allow-older" in self.flags, keep_going=going_on)
        folders = [root / str(major) for major in sorted(self.programs)]
        return find_restorer(server, self.source, self.format, RestoreOptions(keep_going=going_on), folders).major

    def following(self, error: Exception) -> "Attempt | None":
        """Return the next attempt, by the first advice that needs no other server. None if the error has no such advice."""
        if package := re.search(r"postgresql-client-(\d+)", str(error)):
            return replace(self, programs=self.programs | {int(package[1])})
        flags = frozenset(re.findall("--allow-older|--keep-going", str(error)))
        return replace(self, flags=self.flags | flags) if flags else None


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pg_restore and a psql of each major version, which only print their version."""
    folder = tmp_path_factory.mktemp("programs")
    for major, name in itertools.product(MAJORS, ("pg_restore", "psql")):
        program = folder / str(major) / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {major}.30'\n")
        program.chmod(0o755)
    return folder


def test_an_option_needs_a_pg_restore_that_has_it(root: Path) -> None:
    source = Source.model_construct(server_version="15.1", pg_dump_version="15.2")

    def find(server: int, options: RestoreOptions, *programs: int) -> int:
        folders = [root / str(major) for major in programs]
        return find_restorer(Program(root, server, f"{server}.3"), source, "directory", options, folders).major

    policies, in_pieces = RestoreOptions(no_policies=True), RestoreOptions(transaction_size=3, no_schema=False)
    assert find(17, RestoreOptions(), 15, 17, 18) == 17
    assert find(17, policies, 15, 17, 18) == 18
    assert find(17, in_pieces, 15, 17, 18) == 17
    assert find(16, RestoreOptions(no_table_access_method=True), 14, 16, 18) == 16
    with pytest.raises(
        InvalidRequest, match=r"^--no-policies is an option of newer .* 18 or newer is needed.* only 17"
    ):
        find(17, policies, 17)
    for options in (policies, in_pieces):
        with pytest.raises(
            InvalidRequest, match=r"needs pg_restore 1[78] or newer, which can't restore into .* 16\.3\."
        ):
            find(16, options, 16, 18)
    assert find(16, RestoreOptions(no_policies=True, keep_going=True), 16, 18) == 18


@pytest.mark.parametrize("format_", ["directory", "plain"])
@pytest.mark.parametrize("server", MAJORS)
def test_following_the_advice_of_errors_ends_without_repeating_an_error(root: Path, server: int, format_: str) -> None:
    for dumped_from, dumped_by, installed in itertools.product(MAJORS, MAJORS, MAJORS):
        if dumped_by < dumped_from:
            continue
        source = Source.model_construct(server_version=f"{dumped_from}.1", pg_dump_version=f"{dumped_by}.2")
        attempt: Attempt | None = Attempt(server, source, format_, frozenset({installed}))
        tried = set[tuple[frozenset[int], frozenset[str]]]()
        while attempt:
            assert (attempt.programs, attempt.flags) not in tried, attempt
            tried.add((attempt.programs, attempt.flags))
            try:
                assert attempt.restore(root) >= dumped_by
                break
            except (InvalidRequest, ProgramMissing) as exc:
                attempt = attempt.following(exc)
        assert attempt or (format_ == "plain" and dumped_by > 16 >= server), (tried, source)
