"""What is wrong with a chain has a name."""

from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate
from typing import Any

from support.calls import calls

from pipeline.trust.chain import Chain, Fault, Node, examine
from pipeline.trust.statement import Link, Reference

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def cite(node: Node) -> Reference:
    return Reference(backup_id=node.backup_id, sequence=node.link.sequence, sha256=node.sha256)


def node(
    number: int,
    predecessor: Node | None = None,
    *interrupted: Node,
    writer: str = "db1",
    day: int | None = None,
    anew: bool = False,
    removed: bool = False,
    **fields: Any,
) -> Node:
    """Return the backup of a day, or of the day that has its number, after ``predecessor``."""
    cited = [one.link.sequence for one in (predecessor, *interrupted) if one]
    link = Link(
        writer=writer,
        sequence=max(cited, default=0) + 1,
        predecessor=cite(predecessor) if predecessor else None,
        interrupted=list(map(cite, interrupted)),
        anew=anew,
    )
    moment = NOON + timedelta(days=number)
    fields = {"pruned_at" if removed else "stored_at": moment} | fields
    return Node(f"202611{day or number:02}T120000Z-{number:06x}", f"{number:064x}", link, **fields)


def faults(*nodes: Node) -> list[tuple[Fault, str]]:
    """Return what is wrong, with the days of the backups' IDs."""
    return [(finding.fault, finding.backup_id[6:8]) for finding in examine("prod", "shop", nodes)[1]]


FIRST = node(1)
SECOND = node(2, FIRST)
THIRD = node(3, SECOND)
FOURTH = node(4, THIRD)


def test_nothing_is_wrong_with_a_whole_chain() -> None:
    chains, findings = examine("prod", "shop", [THIRD, FIRST, FOURTH, SECOND])
    assert not findings
    assert chains == [Chain("prod", "shop", "db1", FOURTH, backups=4, removed=0)]


def test_a_removed_backup_stays_in_the_chain_by_its_tombstone() -> None:
    removed = node(1, removed=True), node(2, node(1), removed=True)
    chains, findings = examine("prod", "shop", [*removed, THIRD, FOURTH])
    assert not findings
    assert (chains[0].backups, chains[0].removed) == (2, 2)


def test_a_missing_backup_is_a_gap_even_if_its_successor_was_removed() -> None:
    assert faults(FIRST, THIRD, FOURTH) == [(Fault.GAP, "02")]
    assert faults(FIRST, node(3, SECOND, removed=True), FOURTH) == [(Fault.GAP, "02")]
    assert faults(SECOND, THIRD) == [(Fault.GAP, "01")]


def test_two_backups_with_one_predecessor_are_a_fork() -> None:
    assert faults(FIRST, SECOND, THIRD, node(5, SECOND)) == [(Fault.FORK, "05")]
    assert faults(FIRST, node(2)) == [(Fault.FORK, "02")]


def test_a_removed_end_of_the_chain_is_no_branch() -> None:
    removed = node(2, FIRST, removed=True), node(3, SECOND, removed=True)
    assert faults(FIRST, *removed, node(5, FIRST)) == []
    assert faults(FIRST, *removed, FOURTH, node(5, FIRST)) == [(Fault.FORK, "05")]
    assert examine("prod", "shop", [FIRST, *removed, node(5, FIRST)])[0][0].head.backup_id[6:8] == "05"


def test_another_writer_is_no_fork() -> None:
    others = node(5, writer="db2"), node(6, node(5, writer="db2"), writer="db2")
    chains, findings = examine("prod", "shop", [FIRST, SECOND, *others])
    assert not findings
    assert [(chain.writer, chain.head.backup_id[6:8]) for chain in chains] == [("db1", "02"), ("db2", "06")]


def test_a_backup_that_was_perhaps_committed_may_be_there_or_not() -> None:
    perhaps = node(3, SECOND)
    after = node(4, SECOND, perhaps)
    assert after.link.sequence == 4
    assert faults(FIRST, SECOND, after) == []
    assert faults(FIRST, SECOND, perhaps, after) == []
    assert faults(FIRST, perhaps, after) == [(Fault.GAP, "02")]
    assert faults(FIRST, SECOND, perhaps, after, node(5, SECOND)) == [(Fault.FORK, "05")]


def test_a_chain_that_begins_anew_is_a_finding_while_older_backups_are_there() -> None:
    anew = node(5, anew=True)
    assert faults(anew) == []
    assert faults(FIRST, SECOND, anew, node(6, anew)) == [(Fault.ANEW, "05")]
    assert faults(node(1, removed=True), SECOND, anew) == [(Fault.ANEW, "05")]
    assert faults(node(1, removed=True), node(2, FIRST, removed=True), anew) == []


def test_a_manifest_that_was_stored_after_its_tombstone_is_a_replay() -> None:
    spared = node(2, FIRST, pruned_at=NOON + timedelta(days=9))
    assert faults(FIRST, spared, THIRD) == []
    again = node(2, FIRST, pruned_at=NOON + timedelta(days=9), stored_at=NOON + timedelta(days=10))
    assert faults(FIRST, again, THIRD) == [(Fault.REPLAY, "02")]


def test_a_clock_that_ran_backwards_is_a_finding() -> None:
    assert faults(FIRST, SECOND, node(3, SECOND, day=1)) == [(Fault.CLOCK_BACK, "01")]


def test_a_backup_of_another_cluster_is_a_finding() -> None:
    first, second = node(1, system="7000"), node(2, FIRST)
    assert faults(first, second, node(3, second, system="7000")) == []
    assert faults(first, second, node(3, second, system="8000"), node(4, node(3), system="8000")) == [
        (Fault.OTHER_SYSTEM, "03")
    ]


def test_the_work_grows_with_the_length_of_the_chain() -> None:
    """Neither an unknown system identifier nor a removed backup makes the search start again at each backup."""

    def chain(length: int) -> list[Node]:
        rest = range(2, length + 1)
        return list(
            accumulate(rest, lambda last, number: node(number, last, day=1, removed=number < length), initial=FIRST)
        )

    short, long = (calls(partial(examine, "prod", "shop", chain(length))) for length in (200, 400))
    assert long < 2.2 * short
