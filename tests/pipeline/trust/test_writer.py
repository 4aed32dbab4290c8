"""The end of a chain: what the next statement cites, and the file that remembers the last statements."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidRequest, LocalResourceExhausted
from pipeline.trust.statement import Reference
from pipeline.trust.writer import ChainEnd, ChainName, StateFile, next_link

NAME = ChainName("s3://bucket/prefix", "prod", "shop", "db1")


def statement(sequence: int) -> Reference:
    return Reference(backup_id=f"20261123T{sequence:06}Z-7f3a9c", sequence=sequence, sha256=f"{sequence:064x}")


def end(committed: int | None = None, *interrupted: int) -> ChainEnd:
    return ChainEnd(
        store=NAME.store,
        cluster=NAME.cluster,
        database=NAME.database,
        writer=NAME.writer,
        committed=statement(committed) if committed else None,
        interrupted=list(map(statement, interrupted)),
    )


@pytest.mark.parametrize(
    ("remembered", "stored", "readable", "sequence", "predecessor", "interrupted", "anew"),
    [
        pytest.param(end(), None, True, 1, None, [], False, id="the first"),
        pytest.param(end(), None, False, 1, None, [], True, id="nothing is known"),
        pytest.param(end(3), None, False, 4, 3, [], False, id="only the file"),
        pytest.param(end(), 3, True, 4, 3, [], False, id="only the store"),
        pytest.param(end(2), 3, True, 4, 3, [], False, id="the file is old"),
        pytest.param(end(4), 3, True, 5, 4, [], False, id="the newest was removed from the store"),
        pytest.param(end(3, 4, 5), None, False, 6, 3, [4, 5], False, id="perhaps committed"),
        pytest.param(end(3, 4, 5), 4, True, 6, 4, [5], False, id="one of them was committed"),
        pytest.param(end(None, 1), None, False, 2, None, [1], True, id="perhaps the first"),
    ],
)
def test_the_next_statement_cites_the_last_one(
    remembered: ChainEnd,
    stored: int | None,
    readable: bool,
    sequence: int,
    predecessor: int | None,
    interrupted: list[int],
    anew: bool,
) -> None:
    link = next_link("db1", remembered, statement(stored) if stored else None, readable=readable)
    assert (link.writer, link.sequence, link.anew) == ("db1", sequence, anew)
    assert link.predecessor == (statement(predecessor) if predecessor else None)
    assert link.interrupted == list(map(statement, interrupted))


def test_a_state_file_remembers(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state" / "pgstow", NAME)
    with state.alone():
        assert state.read() == end()
        for stored, expected in ((None, end(None, 1)), (statement(5), end(5, 6))):
            link = next_link("db1", state.read(), stored, readable=True)
            state.attempted(link, statement(link.sequence))
            assert state.read() == expected
        state.committed(statement(6))
    assert state.read() == end(6)
    assert {path.stat().st_mode & 0o777 for path in state.folder.iterdir()} == {0o600}
    assert state.folder.stat().st_mode & 0o777 == 0o700
    other = StateFile(state.folder, ChainName(NAME.store, NAME.cluster, NAME.database, "db2"))
    assert other.read().committed is None


def test_many_interrupted_backups_do_not_make_the_file_grow_without_end(tmp_path: Path) -> None:
    state = StateFile(tmp_path, NAME)
    for sequence in range(1, 300):
        state.attempted(next_link("db1", state.read(), None, readable=False), statement(sequence))
    assert len(state.read().interrupted) == 100
    assert next_link("db1", state.read(), None, readable=False).sequence == 300


VALID = json.loads(end(1, 2).model_dump_json())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary())
@example(data=b"")
@example(data=b"[" * 60_000)
@example(data=b" " * 70_000 + json.dumps(VALID).encode())
@example(data=json.dumps(VALID | {"writer": "db2"}).encode())
@example(data=json.dumps(VALID | {"state_version": "2.0"}).encode())
@example(data=json.dumps(VALID | {"interrupted": [{"backup_id": "x", "sequence": 0, "sha256": ""}]}).encode())
def test_a_hostile_state_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    state = StateFile(tmp_path, NAME)
    state.path.write_bytes(data)
    with pytest.raises(InvalidRequest, match=r"state file .* is damaged. Remove it"):
        state.read()


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "states", NAME)
    state.folder.mkdir()
    state.path.with_suffix(".lock").symlink_to(tmp_path / "made")
    with pytest.raises(LocalResourceExhausted), state.alone():
        pass
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = StateFile(tmp_path / "file" / "states", NAME)
    with pytest.raises(LocalResourceExhausted, match="remembers a chain"), state.alone():
        pass
    folder = StateFile(tmp_path, NAME)
    folder.path.mkdir()
    with pytest.raises(LocalResourceExhausted, match="Is a directory"):
        folder.read()
