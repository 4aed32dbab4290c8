"""Write the report as Markdown: the costs of the runs, and the targets."""

import platform
import subprocess
from collections.abc import Iterable, Mapping

import psutil

from benchmarks import sides
from benchmarks.record import Outcome, Record, Target, cell, machine, wall
from benchmarks.runs import LEVEL, SERVER_SETTINGS
from benchmarks.sides import Side

_MIB = 1 << 20
_MEASURED = "[Measured](docs/benchmarks.md): pgstow's time ÷ the other tool's time. Below 1, pgstow is faster."
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
- **pgstow ÷ wall**, **pgstow ÷ machine**: the wall seconds or the machine seconds of pgstow in the first row, divided by those of the row,
  turn by turn. The figure is the median. The lowest and the highest follow in parentheses."""


def render(record: Record) -> str:
    """Return the whole report as Markdown."""
    parts = [
        "# Benchmarks",
        f"Printed by `{record.command}`. This report also lists the targets that were missed.",
        "\n".join(record.conditions),
    ]
    if record.share != 1:
        parts.append(f"**The data have {record.share:g} of the whole sizes. The targets are for the whole sizes.**")
    targets = [target for outcome in record.outcomes.values() for target in outcome.targets]
    parts += ["## Targets", target_table(targets)]
    for outcome in record.outcomes.values():
        parts += [f"## {outcome.title}", _circumstances(outcome)]
        parts.append(f"Not measured: {outcome.problem}." if outcome.problem else _table(outcome))
    parts += ["## How to read the columns", _COLUMNS, "## The commands", _commands(record)]
    return "\n\n".join(parts) + "\n"


def rivals(record: Record) -> str:
    """Return README's table and the line before it: how long pgstow takes beside other tools."""
    backup, restore = (record.outcomes.get(name) for name in ("rivals-backup", "rivals-restore"))
    restores = {side.reads.name: side.name for side in _sides() if side.reads and side is not sides.RESTORE}
    lines = [_MEASURED, "", "| pgstow ÷ | backup | restore |", "|---|--:|--:|"]
    for result in backup.results[1:] if backup else ():
        ratios = (
            backup.ratio(sides.PGSTOW.name, result.name, wall) if backup else None,
            restore.ratio(sides.RESTORE.name, restores.get(result.name, ""), wall) if restore else None,
        )
        if any(ratios):
            figures = (f"{ratio.median:.2f}" if ratio else "" for ratio in ratios)
            lines.append(f"| {' | '.join((cell(result.name), *figures))} |")
    return "\n".join(lines)


def conditions(repeat: int, jobs: int) -> list[str]:
    """Return the lines about the machine, the programs and the settings."""
    return [
        describe_machine(),
        describe_programs("pg_dump", "rclone", "aws", "zstd", "restic", "pgstow"),
        f"- Runs: {repeat} of each command. The commands take turns, and each turn begins with another command. Each has {jobs} jobs "
        f"and zstd's level {LEVEL}, unless it says otherwise. A CHECKPOINT and a sync precede each run. The database and the local dumps are "
        "in the page cache.",
        describe_server(SERVER_SETTINGS),
        "- Store: `rclone serve s3` over HTTP. It checks signatures, and has no cache of its own.",
    ]


def target_table(targets: Iterable[Target]) -> str:
    """Return the table of the targets."""
    return "\n".join(("| target | limit | figure | |", "|---|---|---|---|", *(target.line() for target in targets)))


def _circumstances(outcome: Outcome) -> str:
    data = f" Data: {outcome.database}" if outcome.database else ""
    return f"Measured on {outcome.date}. Before the runs, other processes kept the machine {outcome.neighbours:.0f}% busy.{data}"


def _table(outcome: Outcome) -> str:
    base = outcome.results[0].name
    lines = [
        "| | wall s | CPU s | machine s | memory MiB | disk MiB | stored MB | PUTs | pgstow ÷ wall | pgstow ÷ machine |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in outcome.results:
        if not (cost := result.cost):
            lines.append(f"| {cell(result.name)} | {result.problem or 'not run'} |{' |' * 8}")
            continue
        figures = (f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.machine_cpu:.2f}", f"{cost.memory / _MIB:.0f}")
        store = (f"{result.stored / 1e6:.1f}", f"{result.puts}") if result.puts else ("", "")
        beside = base.startswith(sides.PGSTOW.name) and result.name != base
        ratios = [outcome.ratio(base, result.name, figure) if beside else None for figure in (wall, machine)]
        cells = (
            cell(result.name),
            *figures,
            f"{cost.disk / _MIB:.0f}",
            *store,
            *(str(ratio or "") for ratio in ratios),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def describe_machine(neighbours: float | None = None) -> str:
    """Return the report's line about this machine. ``neighbours`` is how busy other processes kept it before the runs, in percent."""
    memory = psutil.virtual_memory().total / (1 << 30)
    busy = "" if neighbours is None else f" Before the runs, other processes kept it {neighbours:.0f}% busy."
    return (
        f"- Machine: {psutil.cpu_count()} cores, {memory:.0f} GiB of memory, Linux {platform.release().split('-')[0]}. "
        f"The database server, the object store and the measured commands share it.{busy}"
    )


def describe_programs(*names: str) -> str:
    """Return the report's line about the versions of programs and of Python. A program that can't be run isn't in it."""
    versions = "; ".join(filter(None, map(_version, names)))
    return f"- Programs: {versions}; Python {platform.python_version()}."


def describe_server(settings: Mapping[str, str]) -> str:
    """Return the report's line about the server's settings."""
    return f"- Server: {', '.join(f'{name} = {value}' for name, value in settings.items())}."


def _sides() -> list[Side]:
    return [value for value in vars(sides).values() if isinstance(value, Side)]


def _commands(record: Record) -> str:
    measured = {result.name for outcome in record.outcomes.values() for result in outcome.results if result.cost}
    return describe_commands({side.name: side.command for side in _sides() if side.name in measured})


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
