"""The record of the benchmarks: docs/benchmarks.json, from which the report, README's table and the model are made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.measure import Measurement, Spread, summarize

Figure = Callable[[Measurement], float]


@dataclass(slots=True)
class Result:
    """The costs of one side."""

    name: str
    runs: list[Measurement] = field(default_factory=list)
    """The costs of each run, in the order of the turns."""
    puts: int = 0
    """The number of PUT requests of the last run."""
    stored: int = 0
    """Bytes that the last run left in the store."""
    fetched: int = 0
    """Bytes of the answers of the store to the last run; 0 if they weren't counted."""
    problem: str | None = None
    """Why there are no figures; None if there are."""

    @property
    def cost(self) -> Measurement | None:
        """The summary of all runs; None if the side did not run, or failed."""
        return None if self.problem or not self.runs else summarize(self.runs)


@dataclass(frozen=True, slots=True)
class Target:
    """A target, and the figure that was measured."""

    what: str
    figure: float | None
    """The measured figure; None if it wasn't measured."""
    limit: float
    """The highest figure that reaches the target."""
    unit: str = ""
    spread: Spread | None = None
    """The lowest and the highest figure of single pairs; None if the figure isn't from pairs."""

    def line(self) -> str:
        """Return the target's line of the table."""
        what, limit = cell(self.what), f"{self.limit:,g}{self.unit}"
        if self.figure is None:
            return f"| {what} | ≤ {limit} | | not measured |"
        verdict = "reached" if self.figure <= self.limit else "**missed**"
        figure = f"{self.figure:,.0f}" if abs(self.figure) >= 1000 else f"{self.figure:.3g}"
        spread = f" ({self.spread.low:.3g}–{self.spread.high:.3g})" if self.spread else ""
        return f"| {what} | ≤ {limit} | {figure}{self.unit}{spread} | {verdict} |"


@dataclass(slots=True)
class Outcome:
    """The results of one case: several sides, measured in turn."""

    title: str
    results: list[Result] = field(default_factory=list)
    """The first result is pgstow's, if pgstow has one."""
    targets: list[Target] = field(default_factory=list)
    problem: str | None = None
    """Why nothing was measured; None if something was."""
    database: str = ""
    """A description of the data."""
    dumped: int = 0
    """The bytes of the data as COPY text; 0 if unknown."""
    date: str = ""
    """The day of the measurement, as in 2026-11-30."""
    neighbours: float = 0.0
    """How busy other processes kept the machine before the runs, in percent of all its cores."""

    def result(self, name: str) -> Result | None:
        """Return the result of the side with this name; None if there is no such side."""
        return next((result for result in self.results if result.name == name), None)

    def pairs(self, own: str, other: str) -> list[tuple[Measurement, Measurement]]:
        """Return the runs of two sides in pairs, one pair for each turn. The list is empty if one of the sides has no figures."""
        results = self.result(own), self.result(other)
        runs = [result.runs if result and result.cost else [] for result in results]
        return list(zip(*runs, strict=False))

    def ratio(self, own: str, other: str, figure: Figure) -> Spread | None:
        """Return the ratios of a figure of two sides, turn by turn; None if one of the sides has no figures."""
        ratios = [figure(run) / figure(beside) for run, beside in self.pairs(own, other)]
        return Spread.of(ratios) if ratios else None


@dataclass(slots=True)
class Record:
    """All that was measured."""

    command: str
    """The command line of the last run of the benchmarks."""
    share: float
    """The share of the whole sizes in the last run."""
    conditions: list[str]
    """Lines about the machine, the programs and the settings in the last run."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """The outcomes of the cases, by the names that ``--only`` takes."""

    def save(self, path: Path) -> None:
        """Write the record as JSON."""
        path.write_bytes(_JSON.dump_json(self, indent=1) + b"\n")

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Return the record in a file. Raise FileNotFoundError, or pydantic.ValidationError if the file has another form."""
        return _JSON.validate_json(path.read_bytes())


_JSON = TypeAdapter(Record)


def cell(text: str) -> str:
    """Return a text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def wall(run: Measurement) -> float:
    """Return the seconds from start to exit."""
    return run.wall


def machine(run: Measurement) -> float:
    """Return the busy seconds of all cores."""
    return run.machine_cpu
