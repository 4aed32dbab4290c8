"""Whoever follows what an error advises gets the restore, or one last word: no advice leads back to an error seen before."""

import itertools
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipeline.catalog.manifest import Source
from pipeline.errors import InvalidRequest, ProgramMissing
from pipeline.postgres.programs import Program
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.restore.compatibility import check_server, find_restorer

MAJORS = range(14, 19)


@dataclass(frozen=True)
class Attempt:
    """A restore, as somebody tries it who has these programs and does what errors say."""

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
        """Return the next attempt by the first advice that stays with this server; None if there is no such advice."""
        if package := re.search(r"postgresql-client-(\d+)", str(error)):
            return replace(self, programs=self.programs | {int(package[1])})
        flags = frozenset(re.findall("--allow-older|--keep-going", str(error)))
        return replace(self, flags=self.flags | flags) if flags else None


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with a pg_restore and a psql of each major version, which can do no more than say so."""
    folder = tmp_path_factory.mktemp("programs")
    for major, name in itertools.product(MAJORS, ("pg_restore", "psql")):
        program = folder / str(major) / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {major}.30'\n")
        program.chmod(0o755)
    return folder


@pytest.mark.parametrize("format_", ["directory", "plain"])
@pytest.mark.parametrize("server", MAJORS)
def test_advice_leads_to_a_restore_and_never_in_a_circle(root: Path, server: int, format_: str) -> None:
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
