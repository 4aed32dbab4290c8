"""Write the report as Markdown: the costs of the runs, and the targets."""

import datetime
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from benchmarks import sides
from benchmarks.database import DATABASES
from benchmarks.runs import LEVEL, SERVER_SETTINGS, Result

_MIB = 1 << 20
_COLUMNS = """\
- **wall**: seconds from start to exit. The figure is the median of the runs.
- **CPU**: user and system seconds of the command and its children. The database server and the object store don't count. The figure is
  the median.
- **machine**: busy seconds of all cores during the run, whichever process was busy. The figure is the median.
- **memory**: the most memory of the command and its children at one moment. It is the sum of their PSS, which counts shared pages once. The
  page cache doesn't count. Memory is sampled up to 20 times a second.
- **disk**: the most blocks in the command's own local folder (its spool, its stage and TMPDIR), sampled in the same way.
- **stored**: bytes of all objects in the store.
- **PUTs**: PUT requests that the store took. Each part of a multipart upload counts. The POST requests that open and close such an upload
  don't count.
- **pgstow ÷**: pgstow's wall time, divided by the wall time of the row."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target, and the figure that was measured."""

    what: str
    figure: float | None
    """The measured figure; None if it wasn't measured."""
    limit: float
    """The highest figure that reaches the target."""
    unit: str = ""

    def line(self) -> str:
        """Return the target's line of the table."""
        limit = f"{self.limit:,g}{self.unit}"
        if self.figure is None:
            return f"| {self.what} | ≤ {limit} | | not measured |"
        verdict = "reached" if self.figure <= self.limit else "**missed**"
        figure = f"{self.figure:,}" if isinstance(self.figure, int) else f"{self.figure:.3g}"
        return f"| {self.what} | ≤ {limit} | {figure}{self.unit} | {verdict} |"


@dataclass(slots=True)
class Outcome:
    """All results. None means that a result wasn't wanted, or can't be measured on this machine."""

    help_seconds: Sequence[float] | None
    """Seconds of each run of ``pgstow --help``."""
    neighbours: float
    """How busy other processes kept the machine before the runs, in percent of all its cores."""
    databases: list[str] = field(default_factory=list)
    """A description of each database that was backed up."""
    backups: Sequence[Result] | None = None
    restores: Sequence[Result] | None = None
    cluster: Sequence[Result] | None = None
    links: dict[str, Sequence[Result]] = field(default_factory=dict)
    """Results of backups over a slow link, by the link's description."""
    link_problem: str | None = None
    """Why no slow link can be made on this machine; None if one can."""

    def targets(self) -> Iterator[Target]:
        """Yield the project's targets, with the measured figures."""
        backups, restores, cluster = (_by_name(results) for results in (self.backups, self.restores, self.cluster))
        links = {name: _by_name(results) for name, results in self.links.items()}
        yield Target(
            "backup: wall ÷ wall of the script of separate steps", _ratio(backups, sides.PGSTOW, sides.SEQUENTIAL), 0.7
        )
        yield Target("backup: wall ÷ wall of the pipe", _ratio(backups, sides.PGSTOW, sides.PIPE), 1.0)
        for name, link in links.items():
            slowest = max(sides.STAGES, key=lambda stage, link=link: _wall(link, stage) or 0)
            yield Target(
                f"backup over a link of {name}: wall ÷ wall of the slowest stage ({slowest})",
                _ratio(link, sides.PGSTOW, slowest),
                1.1,
            )
        yield Target(
            f"backup of {DATABASES} small databases: wall ÷ wall of the script",
            _ratio(cluster, sides.PGSTOW, sides.ONE_BY_ONE),
            0.7,
        )
        yield Target(
            "restore: wall ÷ wall of pg_restore from local files", _ratio(restores, sides.PGSTOW, sides.FLOOR), 1.15
        )
        yield Target("verify --level restore: wall ÷ wall of restore", _ratio(restores, sides.PROOF, sides.PGSTOW), 1.2)
        costs = [run[sides.PGSTOW].cost for run in (backups, restores, cluster, *links.values()) if sides.PGSTOW in run]
        measured = [cost for cost in costs if cost]
        yield Target("spool: the most disk", max((cost.disk / _MIB for cost in measured), default=None), 256, " MiB")
        yield Target("memory: the most", max((cost.memory / _MIB for cost in measured), default=None), 400, " MiB")
        pgstow = next((run[sides.PGSTOW] for run in (backups, *links.values()) if sides.PGSTOW in run), None)
        allowed = pgstow.stored / (32 * _MIB) + 10 if pgstow else 10
        yield Target(
            "PUTs: stored bytes ÷ 32 MiB + 10", pgstow.puts if pgstow and pgstow.cost else None, round(allowed, 1)
        )
        yield Target("pgstow --help", statistics.median(self.help_seconds) if self.help_seconds else None, 0.3, " s")


def render(outcome: Outcome, *, command: str, runs: int, jobs: int) -> str:
    """Return the whole report as Markdown. ``command`` is the command line of the benchmarks, and ``runs`` the number of runs of each side."""
    parts = [
        "# Benchmarks",
        f"Printed by `{command}` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}. This report also lists the targets that were missed.",
        _conditions(outcome, runs, jobs),
    ]
    if outcome.backups:
        parts += ["## Backup", _table(outcome.backups)]
    if outcome.restores:
        parts += ["## Restore", _table(outcome.restores)]
    if outcome.cluster:
        parts += [f"## Backup of a server with {DATABASES} small databases", _table(outcome.cluster)]
    for link, results in outcome.links.items():
        parts += [f"## Backup over a link of {link}", _table(results)]
    if outcome.link_problem:
        parts += ["## Backup over slow links", f"Not measured: {outcome.link_problem}."]
    parts += [
        "## Targets",
        target_table(outcome.targets()),
        "## How to read the columns",
        _COLUMNS,
        "## The commands",
        _commands(),
    ]
    return "\n\n".join(parts) + "\n"


def target_table(targets: Iterable[Target]) -> str:
    """Return the table of the targets."""
    return "\n".join(("| target | limit | figure | |", "|---|---|---|---|", *(target.line() for target in targets)))


def _table(results: Sequence[Result]) -> str:
    base = _wall(_by_name(results), sides.PGSTOW)
    lines = [
        "| | wall s | CPU s | machine s | memory MiB | disk MiB | stored MB | PUTs | pgstow ÷ |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        name = result.name.replace("|", "\\|")
        if not (cost := result.cost):
            lines.append(f"| {name} | failed: {(result.problem or 'no run').partition(':')[0]} | | | | | | | |")
            continue
        figures = (f"{cost.wall:.1f}", f"{cost.cpu:.1f}", f"{cost.machine_cpu:.1f}", f"{cost.memory / _MIB:.0f}")
        store = (f"{result.stored / 1e6:.0f}", f"{result.puts}") if result.puts else ("", "")
        ratio = f"{base / cost.wall:.2f}" if base else ""
        lines.append(f"| {' | '.join((name, *figures, f'{cost.disk / _MIB:.0f}', *store, ratio))} |")
    return "\n".join(lines)


def _conditions(outcome: Outcome, runs: int, jobs: int) -> str:
    return "\n".join(
        (
            describe_machine(outcome.neighbours),
            describe_programs("pg_dump", "rclone", "aws", "zstd", "pgstow"),
            *(f"- Database: {database}" for database in outcome.databases),
            f"- Runs: {runs} of each command. The commands take turns, and each round begins with another command. Each has {jobs} jobs "
            f"and zstd's level {LEVEL}. A CHECKPOINT and a sync precede each run. The database and the local dumps are in the page cache.",
            describe_server(SERVER_SETTINGS),
            "- Store: `rclone serve s3` over HTTP. It checks signatures, and has no cache of its own.",
        )
    )


def describe_machine(neighbours: float) -> str:
    """Return the report's line about this machine. ``neighbours`` is as in :class:`Outcome`."""
    memory = psutil.virtual_memory().total / (1 << 30)
    return (
        f"- Machine: {psutil.cpu_count()} cores, {memory:.0f} GiB of memory, Linux {platform.release().split('-')[0]}. "
        "The database server, the object store and the measured commands share it. "
        f"Before the runs, other processes kept it {neighbours:.0f}% busy."
    )


def describe_programs(*names: str) -> str:
    """Return the report's line about the versions of programs and of Python. A program that can't be run isn't in it."""
    versions = "; ".join(filter(None, map(_version, names)))
    return f"- Programs: {versions}; Python {platform.python_version()}."


def describe_server(settings: Mapping[str, str]) -> str:
    """Return the report's line about the server's settings."""
    return f"- Server: {', '.join(f'{name} = {value}' for name, value in settings.items())}."


def _commands() -> str:
    kinds: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("backup", sides.BACKUPS),
        ("stage", sides.STAGES),
        ("restore", sides.RESTORES),
        (f"backup of {DATABASES} small databases", sides.CLUSTER),
    )
    return describe_commands({f"{kind}: {name}": line for kind, lines in kinds for name, line in lines.items()})


def describe_commands(commands: Mapping[str, str]) -> str:
    """Return a block of shell with commands, each below its name."""
    lines = [f"# {name}\n{command}" for name, command in commands.items()]
    broken = (
        line.replace(" && ", " &&\n  ").replace("; do ", "; do\n  ").replace("; done", "\ndone") for line in lines
    )
    return "```sh\n" + "\n\n".join(broken) + "\n```"


def _version(program: str) -> str | None:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.splitlines()[0].strip("* ").split(", ")[0]


def _by_name(results: Sequence[Result] | None) -> Mapping[str, Result]:
    return {result.name: result for result in results or ()}


def _wall(results: Mapping[str, Result], name: str) -> float | None:
    cost = results[name].cost if name in results else None
    return cost.wall if cost else None


def _ratio(results: Mapping[str, Result], name: str, other: str) -> float | None:
    wall, reference = _wall(results, name), _wall(results, other)
    return wall / reference if wall and reference else None
