"""Divides the data of a restore among processes that load it at the same time, so that all end at about the same time."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from pipeline.archive.reader import Archive
from pipeline.config import SplitTables
from pipeline.postgres.toc import TocEntry

_PER_FILE = 64 * 1024
"""The weight of each file beside its size, in bytes."""
_WORTH_IT = 64 * 1024 * 1024
"""``auto`` splits tables of at least this size, and only if a process would otherwise have this much more than its fair share, in bytes."""
_WORTH_PART = 8
"""``auto`` splits tables only if a process would otherwise have at least this part more than its fair share (an eighth). A split costs a
little: under ``wal_level = minimal``, a split table's rows are written to the write-ahead log."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The data entries of each process."""

    own: list[list[TocEntry]]
    """For each process, the entries that it loads alone, in order."""
    split: list[TocEntry]
    """The entries that all processes load together, each after its own entries."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """Entries that stay together, in this order."""

    entries: Sequence[TocEntry]
    weight: int
    """The number of bytes of content that take about the same time to load."""


def divide(
    archive: Archive,
    data: Iterable[TocEntry],
    in_turn: Collection[int],
    jobs: int,
    split: SplitTables,
    may_be_split: Callable[[TocEntry], bool],
) -> Shares:
    """Divide the data entries among at most ``jobs`` processes.

    The largest come first. Tables in the same pack stay together, since a pack is fetched whole. Tables that are ``in_turn`` stay together,
    too, in the archive's order. A table is split only if ``may_be_split`` is true for it, and only if it is in no pack.
    """
    units = _units(archive, data, in_turn)
    alone = [unit for unit in units if _is_alone(archive, unit) and may_be_split(unit.entries[0])]
    if split == "auto":
        chosen = _uneven(units, alone, jobs)
    else:
        chosen = [unit for unit in alone if split != "never" and archive.files[unit.entries[0].filename].size >= split]
    rest = _without(units, chosen)
    own, _ = _deal(rest, jobs if chosen else min(jobs, len(units)))
    return Shares(own, [entry for unit in chosen for entry in unit.entries])


def _uneven(units: Sequence[_Unit], alone: Sequence[_Unit], jobs: int) -> list[_Unit]:
    """Return the largest units of ``alone`` without which no process has much more than its fair share.

    The fair share is an equal part of all ``units``. It is more if the units that can't be split already give a process more.
    """
    chosen, waiting = list[_Unit](), [unit for unit in alone if unit.weight >= _WORTH_IT]
    fair = max(sum(unit.weight for unit in units) // jobs, max(_deal(_without(units, waiting), jobs)[1]))
    worth_it = max(_WORTH_IT, fair // _WORTH_PART)
    while waiting and max(_deal(_without(units, chosen), jobs)[1]) >= fair + worth_it:
        chosen.append(waiting.pop(0))
    return chosen


def _deal(units: Iterable[_Unit], shares: int) -> tuple[list[list[TocEntry]], list[int]]:
    """Give each unit to the share that has the least so far. Return the entries and the weight of each share."""
    entries: list[list[TocEntry]] = [[] for _ in range(shares)]
    weights = [0] * shares
    for unit in units:
        least = weights.index(min(weights))
        entries[least] += unit.entries
        weights[least] += unit.weight
    return entries, weights


def _without(units: Iterable[_Unit], others: Collection[_Unit]) -> list[_Unit]:
    left_out = {id(unit) for unit in others}
    return [unit for unit in units if id(unit) not in left_out]


def _units(archive: Archive, data: Iterable[TocEntry], in_turn: Collection[int]) -> list[_Unit]:
    """Return the units of the entries, the heaviest first."""
    together: dict[object, list[TocEntry]] = {}
    for entry in data:
        together.setdefault("in turn" if entry.dump_id in in_turn else _pack_of(archive, entry), []).append(entry)
    units = [_Unit(unit, sum(_weight(archive, entry) for entry in unit)) for unit in together.values()]
    return sorted(units, key=lambda unit: -unit.weight)


def _is_alone(archive: Archive, unit: _Unit) -> bool:
    """True if the unit is a single entry in no pack."""
    return len(unit.entries) == 1 and _pack_of(archive, unit.entries[0]) == unit.entries[0].filename


def _pack_of(archive: Archive, entry: TocEntry) -> object:
    """Return the same value for all entries whose data lies in the same pack."""
    segments = archive.files[entry.filename].segments
    return segments[0].object if segments and segments[0].offset > 0 else entry.filename


def _weight(archive: Archive, entry: TocEntry) -> int:
    paths = (entry.filename, *archive.lists.get(entry.filename, ()))
    return sum(archive.files[path].size + _PER_FILE for path in paths)
