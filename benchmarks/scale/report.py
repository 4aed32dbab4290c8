"""Write the report of the benchmarks of scale as Markdown."""

import datetime
from collections.abc import Sequence

from benchmarks.measure import Spread
from benchmarks.proxy import KINDS
from benchmarks.report import describe_commands, describe_machine, describe_programs, describe_server, target_table
from benchmarks.runs import LEVEL
from benchmarks.scale import audits, commands
from benchmarks.scale.by_itself import DELAY
from benchmarks.scale.lab import SETTINGS, Lab
from benchmarks.scale.rows import Row

_MIB = 1 << 20
_COLUMNS = """\
- **pgstow s**, **stock s**: seconds from start to exit. The figure is the median of the runs.
- **÷ stock**: pgstow's seconds, divided by the seconds of the stock command that ran just before or after it. The figure is the median of
  the pairs. The lowest and the highest follow in parentheses.
- **core s**: user and system seconds of pgstow and its children, such as `pg_dump`. The database server and the store don't count. The
  figure is the median.
- **memory**: the most memory of pgstow and its children at one moment. It is the sum of their PSS, which counts shared pages once. The
  page cache doesn't count. The figure is sampled up to 20 times a second, and is the highest of the runs.
- **spool**, **files**: the most blocks and the most files at one moment in pgstow's own local folder (its spool, TMPDIR and its caches).
  The sampler may use 5% of one core, so it looks less often if there are more files.
- **LIST**, **GET**, **HEAD**, **PUT**, **DELETE**: requests that reached the store. The figure is the highest of the runs. A DELETE
  deletes up to 1,000 objects. **LOCK** counts the requests that read the lock of an object or of the bucket."""


def render(rows: Sequence[Row], lab: Lab, *, command: str, neighbours: float) -> str:
    """Return the whole report as Markdown.

    ``command`` is the command line of the benchmarks. ``neighbours`` is how busy other processes kept the machine before the runs, in percent.
    """
    beside, alone = ([row for row in rows if ("÷ stock" in row.limits) is stock] for stock in (True, False))
    parts = [
        "# Benchmarks of scale",
        f"Printed by `{command}` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}. The targets that were missed are in it, too.",
        _conditions(lab, neighbours),
    ]
    if beside:
        parts += ["## Beside stock PostgreSQL", _stock_table(beside)]
    if alone:
        parts += ["## By itself", _table(alone)]
    if any(trial.requests for row in rows for trial in row.trials):
        parts += ["## Requests to the store", _request_table(rows)]
    parts += ["## Targets", target_table(target for row in rows for target in row.targets())]
    parts += ["## How to read the columns", _COLUMNS, "## The commands", describe_commands(commands.ALL)]
    return "\n\n".join(parts) + "\n"


def _conditions(lab: Lab, neighbours: float) -> str:
    lines = [
        describe_machine(neighbours),
        describe_programs("pg_dump", "rclone", "pgstow"),
        f"- Runs: {lab.repeat} of each command. pgstow and the stock command take turns. pgstow uses zstd's level {LEVEL}. Each command has "
        f"{lab.jobs} jobs, but `restore -t` has pgstow's default. A CHECKPOINT and a sync precede each run. The database, the local dumps "
        "and the stores are in the page cache. pgstow's own caches are empty before each run.",
        describe_server(SETTINGS),
        "- Store: `rclone serve s3` over HTTP, behind a proxy that counts the requests. The proxy also answers requests for locks, as S3 "
        f"does for a bucket without Object Lock. Where the table says so, the proxy delays each request by {DELAY * 1000:g} ms.",
        "- The store of the audits: a program that makes each document when pgstow asks for it. Each request waits "
        f"{audits.DELAY * 1000:g} ms. A later audit begins with the cache that the first audits left.",
        "- Many backups: copies of the manifest and the objects of one real backup, with other names and times.",
    ]
    if lab.share != 1:
        lines.append(f"- Share: {lab.share:g} of the whole sizes. The targets are for the whole sizes.")
    return "\n".join(lines)


def _stock_table(rows: Sequence[Row]) -> str:
    lines = [
        "| | pgstow s | stock s | ÷ stock | core s | memory MiB | spool MiB | files |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if not (cost := row.cost) or not row.ratios:
            lines.append(_failed(row, columns=8))
            continue
        stock = Spread.of([run.wall for run in row.stock]).median
        times = f"{cost.wall:.1f} | {stock:.1f} | {row.ratios} | {cost.cpu:.1f}"
        lines.append(f"| {row.name} | {times} | {cost.memory / _MIB:.0f} | {cost.disk / _MIB:.0f} | {cost.files:,} |")
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> str:
    lines = ["| | pgstow s | lowest–highest | core s | memory MiB |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        if not (cost := row.cost):
            lines.append(_failed(row, columns=5))
            continue
        spread = f"{row.seconds.low:.1f}–{row.seconds.high:.1f}"
        lines.append(f"| {row.name} | {cost.wall:.1f} | {spread} | {cost.cpu:.1f} | {cost.memory / _MIB:.0f} |")
    return "\n".join(lines)


def _request_table(rows: Sequence[Row]) -> str:
    lines = [f"| | {' | '.join(KINDS)} |", f"|---|{'--:|' * len(KINDS)}"]
    for row in rows:
        if row.cost and any(trial.requests for trial in row.trials):
            lines.append(f"| {row.name} | {' | '.join(f'{row.requests(kind):,}' for kind in KINDS)} |")
    return "\n".join(lines)


def _failed(row: Row, *, columns: int) -> str:
    return f"| {row.name} | failed: {(row.problem or 'no run').partition(':')[0]} |{' |' * (columns - 2)}"
