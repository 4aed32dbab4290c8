"""Nights as pictures: a calendar for one database, and a strip for each database of a fleet. The template draws what is computed here."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from pipeline.audit.report import DatabaseAudit, NightState
from pipeline.counting import counted

Nights = Sequence[tuple[date, NightState]]

PITCH = 13
"""Units between the left edges of two cells of a calendar."""
_CELL = 11
_WEEKS = 54
"""Columns of one calendar at most. A year has days in 54 calendar weeks at most."""
_CALENDARS = 3
"""Calendars of a database at most."""
_LABELS = 24
"""Months or years that are named beside a strip at most: more names have no room."""
_RANGES = 12
"""Ranges of days that a sentence lists at most."""
_ROOM = 20
"""Days whose width the name of a month needs."""
STATE_WORDS: Mapping[NightState, str] = {
    NightState.PROVEN: "proven by a restore",
    NightState.GOOD: "good backup",
    NightState.DOUBTED: "backup with a finding",
    NightState.MISSING: "no backup, though one was expected",
    NightState.NOT_EXPECTED: "none expected",
}

_BARS: Mapping[NightState, tuple[float, float]] = {
    NightState.PROVEN: (0, 7),
    NightState.GOOD: (1.5, 5.5),
    NightState.DOUBTED: (3.5, 3.5),
    NightState.MISSING: (5, 5),
    NightState.NOT_EXPECTED: (6, 1),
}
"""Top and height of a day in a strip. The bar of a missing backup hangs below the line on which other bars stand, so no reader needs colour."""
_WORST = 5
"""Nights that a sentence about the whole fleet lists at most."""


@dataclass(frozen=True, slots=True)
class Run:
    """Successive days in the same state."""

    state: NightState
    first: date
    days: int

    def in_words(self) -> str:
        """Return the days as one date, or as two dates with a dash."""
        last = self.first + timedelta(days=self.days - 1)
        return f"{self.first}" if self.days == 1 else f"{self.first} – {last}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One day of a calendar, with the place of its upper left corner."""

    day: date
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Label:
    """A word beside a picture, with its place."""

    words: str
    x: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """A year at most: a column for each week, a row for each weekday, Monday first."""

    width: int
    months: Sequence[Label]
    paths: Mapping[NightState, str]
    """The squares of the quiet states as data of an SVG path: many squares as one element."""
    marks: Mapping[NightState, Sequence[Cell]]
    """The squares of the other states, which have a sign and a title each."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many databases were in each state that matters, on one day."""

    day: date
    x: int
    expected: int
    missing: int
    doubted: int


def runs(nights: Nights) -> Iterator[Run]:
    """Yield the nights as runs, the oldest first."""
    for state, days in groupby(nights, key=lambda night: night[1]):
        held = list(days)
        yield Run(state, held[0][0], len(held))


def in_words(nights: Nights, state: NightState) -> str:
    """Return which nights are in a state, such as ``3 nights: 2026-03-01 – 2026-03-02, 2026-05-07``; empty if there are none."""
    found = [run for run in runs(nights) if run.state is state]
    if not found:
        return ""
    listed = ", ".join(run.in_words() for run in found[-_RANGES:])
    earlier = "the last are " if len(found) > _RANGES else ""
    return f"{counted(sum(run.days for run in found), 'night')}: {earlier}{listed}"


def summary(nights: Nights) -> str:
    """Return how many nights are in each state, as the text alternative of a picture."""
    counts = Counter(state for _, state in nights)
    return "; ".join(
        f"{counted(counts[state], 'night')} {words}" for state, words in STATE_WORDS.items() if counts[state]
    )


def calendars(nights: Nights) -> Sequence[Calendar]:
    """Return the last calendars of a database, at most three, the oldest first. The strip shows earlier nights, too."""
    if not nights:
        return []
    monday = nights[0][0] - timedelta(days=nights[0][0].weekday())
    parts = [list(part) for _, part in groupby(nights, key=lambda night: (night[0] - monday).days // 7 // _WEEKS)]
    return [_calendar(part) for part in parts[-_CALENDARS:]]


def _calendar(nights: Nights) -> Calendar:
    monday = nights[0][0] - timedelta(days=nights[0][0].weekday())
    cells: dict[NightState, list[Cell]] = {state: [] for state in NightState}
    for day, state in nights:
        week, weekday = divmod((day - monday).days, 7)
        cells[state].append(Cell(day, week * PITCH, weekday * PITCH))
    quiet = (NightState.NOT_EXPECTED, NightState.GOOD, NightState.PROVEN)
    paths = {
        state: "".join(f"M{cell.x} {cell.y}h{_CELL}v{_CELL}h-{_CELL}z" for cell in cells[state])
        for state in quiet
        if cells[state]
    }
    marks = {state: cells[state] for state in NightState if state not in quiet and cells[state]}
    width = ((nights[-1][0] - monday).days // 7 + 1) * PITCH
    return Calendar(
        width, _months([day for day, _ in nights], lambda day: (day - monday).days // 7 * PITCH), paths, marks
    )


def month_labels(days: Sequence[date]) -> Sequence[Label]:
    """Return the names of the months beside a strip, whose units are days. If there are many months, only years are named."""
    labels = _months(days, lambda day: (day - days[0]).days)
    if len(labels) > _LABELS:
        labels = [label for label in labels if label.words.isdecimal()]
    return labels[:: -(-len(labels) // _LABELS) or 1]


def _months(days: Sequence[date], place: Callable[[date], int]) -> Sequence[Label]:
    """Name each month at its first day, and January by its year. The first month is named only if its name has room."""
    firsts = [day for day in days if day.day == 1]
    if days and (not firsts or (firsts[0] - days[0]).days > _ROOM):
        firsts.insert(0, days[0])
    return [Label(f"{day:%Y}" if day.month == 1 else f"{day:%b}", place(day)) for day in firsts]


def strip(nights: Nights) -> Mapping[NightState, str]:
    """Return each state's days as data of an SVG path. One unit is a day; a strip is ten units high."""
    if not nights:
        return {}
    paths: dict[NightState, str] = {}
    for run in runs(nights):
        top, height = _BARS[run.state]
        x = (run.first - nights[0][0]).days
        paths[run.state] = paths.get(run.state, "") + f"M{x} {top}h{run.days}v{height}h-{run.days}z"
    return paths


def tallies(databases: Iterable[DatabaseAudit], since: date) -> Sequence[Tally]:
    """Return each day's count over all databases, the oldest day first."""
    counts: dict[date, Counter[NightState]] = {}
    for database in databases:
        for day, state in database.nights:
            counts.setdefault(day, Counter())[state] += 1
    return [
        Tally(
            day,
            (day - since).days,
            count.total() - count[NightState.NOT_EXPECTED],
            count[NightState.MISSING],
            count[NightState.DOUBTED],
        )
        for day, count in sorted(counts.items())
    ]


def worst(counts: Sequence[Tally]) -> Sequence[Tally]:
    """Return the nights on which several databases lack a backup, the one with the most first; at most five."""
    return sorted((tally for tally in counts if tally.missing > 1), key=lambda tally: -tally.missing)[:_WORST]
