"""A row of the report: the runs of a command, the runs of stock PostgreSQL beside them, and the limits."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.measure import CommandFailedError, Measurement, Spread, summarize
from benchmarks.record import Target
from benchmarks.runs import say

_MIB = 1 << 20

Figure = Literal["÷ stock", "seconds", "memory", "spool", "files in the spool", "GET", "LIST"]
"""The figures that can have a limit."""
_UNITS: Mapping[Figure, str] = {"seconds": " s", "memory": " MiB", "spool": " MiB"}


@dataclass(frozen=True, slots=True)
class Trial:
    """The costs of one run of pgstow."""

    cost: Measurement
    requests: Mapping[str, int] = field(default_factory=dict)
    """The number of requests that reached the store, by kind; empty if the store is a folder."""


@dataclass(slots=True)
class Row:
    """The runs of one command of pgstow."""

    name: str
    limits: Mapping[Figure, float]
    """The highest figures that reach the targets, for the whole sizes."""
    trials: list[Trial] = field(default_factory=list)
    stock: list[Measurement] = field(default_factory=list)
    """The runs of stock PostgreSQL, each beside the trial with the same number; empty if there is no stock command."""
    problem: str | None = None
    """Why there are no figures; None if there are."""

    @property
    def cost(self) -> Measurement | None:
        """The summary of all trials; None if the command did not run, or failed."""
        return None if self.problem or not self.trials else summarize([trial.cost for trial in self.trials])

    @property
    def seconds(self) -> Spread:
        """The seconds of pgstow."""
        return Spread.of([trial.cost.wall for trial in self.trials])

    @property
    def ratios(self) -> Spread | None:
        """pgstow's seconds, divided by the seconds of the stock command beside it; None if there is no stock command."""
        pairs = zip(self.trials, self.stock, strict=False)
        ratios = [trial.cost.wall / stock.wall for trial, stock in pairs]
        return Spread.of(ratios) if ratios else None

    def requests(self, kind: str) -> int:
        """Return the most requests of a kind in one run."""
        return max(trial.requests.get(kind, 0) for trial in self.trials)

    def targets(self) -> Iterator[Target]:
        """Yield the targets, with the measured figures."""
        for figure, limit in self.limits.items():
            yield Target(f"{self.name}: {figure}", self._figure(figure), limit, _UNITS.get(figure, ""))

    def _figure(self, figure: Figure) -> float | None:
        if (cost := self.cost) is None:
            return None
        match figure:
            case "÷ stock":
                return self.ratios.median if self.ratios else None
            case "seconds":
                return cost.wall
            case "memory":
                return cost.memory / _MIB
            case "spool":
                return cost.disk / _MIB
            case "files in the spool":
                return cost.files
            case kind:
                return self.requests(kind)


@contextmanager
def attempt(row: Row) -> Iterator[None]:
    """Record a failed command as the row's problem, and go on behind the block."""
    try:
        yield
    except CommandFailedError as exc:
        row.problem = str(exc)
        say(f"  {row.name}: {exc}")


def repeat(row: Row, times: int, own: Callable[[int], Trial], stock: Callable[[], Measurement] | None = None) -> None:
    """Run pgstow several times, and the stock command beside it. The first command of a pair is the second command of the next pair.

    ``own`` takes the number of the turn, from 0.
    """

    def run_own(turn: int) -> None:
        row.trials.append(own(turn))
        say(f"  {row.name}: {row.trials[-1].cost.wall:.1f} s")

    def run_stock(_turn: int) -> None:
        if stock:
            row.stock.append(stock())
            say(f"  {row.name}, stock: {row.stock[-1].wall:.1f} s")

    with attempt(row):
        for turn in range(times):
            for step in (run_stock, run_own) if turn % 2 == 0 else (run_own, run_stock):
                step(turn)
