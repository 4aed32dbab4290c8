"""A restore with several jobs does everything once, and in an order in which it succeeds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.stored_sample import StoredSample

from pipeline.archive.reader import Archive, open_archive
from pipeline.catalog.manifest import File
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.toc import Section, TocEntry
from pipeline.postgres.toc_format import read_toc
from pipeline.restore.steps import Run, Step, plan_steps
from pipeline.trust.seal import Keys

SETUP = {"ENCODING", "STDSTRINGS", "SEARCHPATH"}


@pytest.fixture
def archive(stored_sample: StoredSample) -> Archive:
    with Workers() as workers:
        return open_archive(stored_sample.store, stored_sample.manifest, Keys(), workers, Limits())


def restored(run: Run) -> list[TocEntry]:
    """Return the entries that a run restores, without the archive's settings."""
    entries = read_toc(run.stream.toc or b"").entries
    wanted = None if run.dump_ids is None else set(run.dump_ids)
    return [e for e in entries if e.description not in SETUP and (wanted is None or e.dump_id in wanted)]


def fed(run: Run) -> list[tuple[File, int]]:
    """Return the files of a run, each with the dump ID of its entry."""
    return list(zip(run.stream.files, run.stream.dump_ids, strict=True))


def weight(file: File) -> int:
    """Return what a file costs: its bytes, and as much as 64 KiB for the file itself."""
    return file.size + 64 * 1024


def restored_by(steps: Sequence[Step]) -> list[int]:
    return [entry.dump_id for step in steps for run in step for entry in restored(run)]


def test_a_single_job_restores_the_archive_as_it_is(archive: Archive) -> None:
    for jobs, options in ((1, RestoreOptions()), (4, RestoreOptions(single_transaction=True))):
        [[run]] = plan_steps(archive, None, options, jobs=jobs)
        in_the_archive = [replace(entry, filename="") for entry in archive.toc.entries]
        assert list(read_toc(run.stream.toc or b"").entries) == in_the_archive
        assert run.options == options


@pytest.mark.parametrize("jobs", [1, 4])
def test_each_file_is_fed_once_but_no_list(archive: Archive, jobs: int) -> None:
    files = [
        file
        for step in plan_steps(archive, None, RestoreOptions(), jobs=jobs)
        for run in step
        for file in run.stream.files
    ]
    lists = {"toc.dat", *archive.lists}
    assert sorted(file.path for file in files) == sorted(archive.files.keys() - lists)


@pytest.mark.parametrize("jobs", [2, 4, 40])
def test_every_entry_is_restored_once(archive: Archive, jobs: int) -> None:
    steps = list(plan_steps(archive, None, RestoreOptions(), jobs=jobs))
    wanted = [entry.dump_id for entry in archive.toc.entries if entry.description not in SETUP]
    assert sorted(restored_by(steps)) == sorted(wanted)
    assert [len(step) for step in steps][::2] == [1, 1]
    assert 1 < len(steps[1]) <= jobs


def test_definitions_come_first_and_indexes_last(archive: Archive) -> None:
    [first], data, [last] = plan_steps(archive, None, RestoreOptions(), jobs=4)
    assert {e.section for e in restored(first)} <= {Section.PRE_DATA, Section.NONE}
    assert {"TABLE", "COMMENT"} <= {e.description for e in restored(first)}
    assert {e.description for run in data for e in restored(run)} == {"TABLE DATA", "BLOBS"}
    assert {"INDEX", "FK CONSTRAINT", "SEQUENCE SET"} <= {e.description for e in restored(last)}
    assert last.jobs == 4


def test_jobs_that_lock_the_same_table_know_it(archive: Archive) -> None:
    """pg_restore runs no two entries at once that lock the same table, if the table is in the table of contents."""
    *_, [last] = plan_steps(archive, None, RestoreOptions(), jobs=4)
    there = {entry.dump_id for entry in read_toc(last.stream.toc or b"").entries}
    tables = {entry.dump_id for entry in archive.toc.entries if entry.description == "TABLE"}
    needed = {other for entry in restored(last) for other in entry.dependencies if other in tables}
    assert needed
    assert needed <= there


def test_indexes_of_the_largest_tables_come_first(archive: Archive) -> None:
    """Of the entries that may begin, pg_restore takes the one with the lowest dump ID."""
    *_, [last] = plan_steps(archive, None, RestoreOptions(), jobs=4)
    sizes = {e.dependencies[0]: archive.files[e.filename].size for e in archive.toc.data_entries if e.dependencies}
    indexes = sorted((e for e in restored(last) if e.description == "INDEX"), key=lambda entry: entry.dump_id)
    tables = [sizes[e.dependencies[0]] for e in indexes if e.dependencies[0] in sizes]
    assert tables == sorted(tables, reverse=True)
    assert len(set(tables)) > 2


def test_the_dump_ids_of_the_last_run_change_together(archive: Archive) -> None:
    """Each entry needs the same entries as before, under their new dump IDs."""
    *_, [last] = plan_steps(archive, None, RestoreOptions(), jobs=4)
    before = {(e.description, e.namespace, e.tag, e.oid): e for e in archive.toc.entries}
    names = {e.dump_id: name for name, e in before.items()}
    came = {e.dump_id: (e.description, e.namespace, e.tag, e.oid) for e in read_toc(last.stream.toc or b"").entries}
    moved = 0
    for entry in read_toc(last.stream.toc or b"").entries:
        old = before[came[entry.dump_id]]
        needed = [came[other] if other in came else names.get(other) for other in entry.dependencies]
        assert needed[: len(old.dependencies)] == [names.get(other) for other in old.dependencies]
        moved += entry.dump_id != old.dump_id
    assert moved > 2
    assert [came[dump_id] for dump_id in last.dump_ids or ()] == [came[e.dump_id] for e in restored(last)]


def test_the_data_is_divided_evenly_and_no_pack_is_fetched_twice(archive: Archive) -> None:
    shares = list(plan_steps(archive, None, RestoreOptions(), jobs=2))[1]
    loads = [sum(weight(file) for file in run.stream.files) for run in shares]
    units: Counter[object] = Counter()
    for file in archive.files.values():
        together = file.segments[0].object if file.kind == "table" and file.segments else "large objects"
        units[together] += weight(file)
    assert max(loads) - min(loads) <= max(units.values())
    packs = [
        {file.segments[0].object for file in run.stream.files if file.kind == "table" and file.segments[0].offset > 0}
        for run in shares
    ]
    assert not packs[0] & packs[1]
    assert packs[0] | packs[1]


def test_the_files_come_in_the_order_of_the_table_of_contents(archive: Archive) -> None:
    by_id = {entry.dump_id: entry for entry in archive.toc.entries}
    for run in list(plan_steps(archive, None, RestoreOptions(), jobs=3))[1]:
        entries = [by_id[entry.dump_id] for entry in restored(run)]
        expected = [
            (path, entry.dump_id) for entry in entries for path in archive.lists.get(entry.filename, (entry.filename,))
        ]
        assert [(file.path, dump_id) for file, dump_id in fed(run)] == expected


@pytest.mark.parametrize("section", ["pre-data", "data", "post-data"])
def test_a_section_is_restored_alone(archive: Archive, section: str) -> None:
    steps = list(plan_steps(archive, None, RestoreOptions(sections=(section,)), jobs=4))
    kinds = {Section.PRE_DATA: "pre-data", Section.DATA: "data", Section.POST_DATA: "post-data"}
    found = {kinds[e.section] for step in steps for run in step for e in restored(run) if e.section in kinds}
    assert found == {section}
    assert all(run.options.sections == () for step in steps for run in step)


def test_with_clean_everything_is_dropped_before_anything_is_made(archive: Archive) -> None:
    [first], *later = plan_steps(archive, None, RestoreOptions(clean=True, if_exists=True), jobs=4)
    dropped = {e.dump_id for e in archive.toc.entries if e.drop_statement}
    assert dropped <= {e.dump_id for e in restored(first)}
    assert {e.definition for e in restored(first) if e.description == "INDEX"} == {"-- made later\n"}
    assert [run.options.clean for step in later for run in step] == [False] * sum(map(len, later))


def test_nothing_is_loaded_if_no_data_is_wanted(archive: Archive) -> None:
    for options in (RestoreOptions(schema_only=True), RestoreOptions(sections=("pre-data", "post-data"))):
        steps = list(plan_steps(archive, None, options, jobs=4))
        assert [run.stream.files for step in steps for run in step] == [()] * len(steps)


def test_chosen_entries_bring_only_themselves(archive: Archive) -> None:
    chosen = [entry.dump_id for entry in archive.toc.entries if "review" in entry.tag]
    for jobs in (1, 4):
        assert sorted(restored_by(plan_steps(archive, chosen, RestoreOptions(), jobs=jobs))) == sorted(chosen)


def test_tables_that_the_restore_made_are_truncated_in_the_transaction_that_loads_them(archive: Archive) -> None:
    plain, truncating = (
        list(plan_steps(archive, None, RestoreOptions(), jobs=2, truncate=least))[1] for least in (None, 0)
    )
    by_id = {entry.dump_id: entry for run in plain for entry in restored(run)}
    for run in truncating:
        for entry in restored(run):
            before = by_id[entry.dump_id].copy_statement
            target = before.removeprefix("COPY ").partition(" (")[0].partition(" FROM")[0].rstrip()
            assert entry.copy_statement in {before, f"TRUNCATE TABLE ONLY {target};\n{before}"}
    truncated = {e.tag for run in truncating for e in restored(run) if e.copy_statement.startswith("TRUNCATE")}
    assert len(truncated) > 20
    large = archive.files[table_entry(archive, "telemetry.reading").filename].size
    [few] = [step for step in plan_steps(archive, None, RestoreOptions(), jobs=2, truncate=large) if len(step) > 1]
    assert {e.tag for run in few for e in restored(run) if e.copy_statement.startswith("TRUNCATE")} == {"reading"}
    alone = next(plan_steps(archive, None, RestoreOptions(data_only=True), jobs=2, truncate=0))
    assert not any(e.copy_statement.startswith("TRUNCATE") for run in alone for e in restored(run))


def table_entry(archive: Archive, name: str) -> TocEntry:
    """Return the entry of a table's data. ``name`` is ``schema.table``."""
    [entry] = [e for e in archive.toc.data_entries if f"{e.namespace}.{e.tag}" == name]
    return entry


def runs_with(runs: Step, entry: TocEntry) -> list[Run]:
    return [run for run in runs if entry.dump_id in run.stream.dump_ids]


@pytest.mark.parametrize("jobs", [2, 3, 40])
def test_a_split_table_is_the_last_of_each_job(archive: Archive, jobs: int) -> None:
    large = table_entry(archive, "telemetry.reading")
    size = archive.files[large.filename].size
    data = list(plan_steps(archive, None, RestoreOptions(), jobs=jobs, split=size))[1]
    assert {run.stream.dump_ids[-1] for run in data} == {large.dump_id}
    assert len(runs_with(data, large)) == len(data) > 1
    others = Counter(dump_id for run in data for dump_id in set(run.stream.dump_ids) - {large.dump_id})
    assert set(others.values()) == {1}
    assert others.keys() == {e.dump_id for e in archive.toc.data_entries} - {large.dump_id}


def test_a_split_table_is_not_truncated(archive: Archive) -> None:
    """One session would remove the rows of another."""
    large = table_entry(archive, "telemetry.reading")
    size = archive.files[large.filename].size
    data = list(plan_steps(archive, None, RestoreOptions(), jobs=2, truncate=0, split=size))[1]
    statements = {e.dump_id: e.copy_statement for run in data for e in restored(run)}
    assert statements.pop(large.dump_id) == large.copy_statement
    assert any(statement.startswith("TRUNCATE") for statement in statements.values())


@pytest.mark.parametrize(
    "options",
    [
        RestoreOptions(data_only=True),
        RestoreOptions(data_only=True, disable_triggers=True),
        RestoreOptions(sections=("data",)),
    ],
)
def test_a_table_that_the_restore_does_not_make_is_never_split(archive: Archive, options: RestoreOptions) -> None:
    """The table may have triggers, or a foreign key to its own rows."""
    [data, *_] = [step for step in plan_steps(archive, None, options, jobs=2, split=1) if step[0].stream.files]
    assert max(Counter(dump_id for run in data for dump_id in set(run.stream.dump_ids)).values()) == 1


def test_a_table_in_a_pack_is_never_split(archive: Archive) -> None:
    data = list(plan_steps(archive, None, RestoreOptions(), jobs=2, split=1))[1]
    shared = set.intersection(*(set(run.stream.files) for run in data))
    assert shared
    assert all(file.segments[0].offset == 0 for file in shared)
