"""Back up a sample database, drop a table, restore the table, restore the whole database elsewhere, and compare both."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from demo import compare, sample
from pipeline.errors import PipelineError
from pipeline.postgres.throwaway import ThrowawayCluster

OUTPUT = Path("demo-output")
BACKUPS = OUTPUT / "backups"
DATABASE, COPY = "sample", "sample_restored"
LOST_TABLE, MATERIALIZED_VIEW, LARGE_OBJECTS = "shop.review", "shop.bestseller", "large objects"
BOLD, RED, GREEN, BLUE = 1, 31, 32, 34
"""Codes that style a terminal's text (ECMA-48, Select Graphic Rendition)."""


def main() -> None:
    """Run the demo. It replaces the folder ``demo-output`` in the current folder. Raise SystemExit if the demo fails."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies the number of rows; 1 makes about 670,000 rows"
    )
    scale = parser.parse_args().scale
    started = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    BACKUPS.mkdir(parents=True)
    try:
        with ThrowawayCluster() as cluster:
            show(cluster, scale)
    except PipelineError as error:
        sys.exit(f"The demo stopped: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"The demo stopped: the last command failed with exit code {error.returncode}.")
    tell_where_to_look(time.monotonic() - started)


def show(cluster: ThrowawayCluster, scale: float) -> None:
    """Run all steps of the demo on ``cluster``. ``scale`` is for :func:`demo.sample.fill`.

    Raise subprocess.CalledProcessError if a command fails, and SystemExit if the restored data differs.
    """
    source, copy = cluster.conninfo(DATABASE), cluster.conninfo(COPY)
    store = ["--from", str(BACKUPS)]

    step(f"Start a PostgreSQL {cluster.major} server for the demo (from {cluster.bin_dir}), and fill a sample database")
    with closing(psycopg.connect(cluster.conninfo(), autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0".encode())
    sample.fill(source, scale=scale)
    before, before_definitions = compare.contents(source), compare.definitions(source)
    tables = [content for name, content in before.items() if name not in (LARGE_OBJECTS, MATERIALIZED_VIEW)]
    rows = sum(table.rows for table in tables)
    print(
        f"{rows:,} rows in {len(tables)} tables, a materialized view, and {before[LARGE_OBJECTS].rows} large objects."
    )
    connect_pgstow_to(cluster)
    print("PGHOST, PGPORT and PGUSER tell pgstow where the server is.")

    step("Check that the database and the store are ready")
    pgstow("check", DATABASE, "--to", str(BACKUPS))

    step("Back up the database")
    pgstow("backup", DATABASE, "--to", str(BACKUPS), "--jobs", "2")

    step("List the backups")
    pgstow("list", *store)

    step("Show what is in the newest backup")
    pgstow("show", "latest", *store, "--database", DATABASE)

    step("Check every stored byte")
    pgstow("verify", "latest", *store, "--level", "bytes")

    step(f"Drop {LOST_TABLE}, and restore only that table")
    with closing(psycopg.connect(source, autocommit=True)) as connection:
        connection.execute(f"DROP TABLE {LOST_TABLE}".encode())
    print(f"{_styled(f'DROP TABLE {LOST_TABLE}', RED)}: {before[LOST_TABLE].rows:,} rows are gone.\n")
    pgstow("restore", "latest", *store, "--database", DATABASE, "--into", DATABASE, "-t", LOST_TABLE)
    report_equal(f"{LOST_TABLE} as it was", before[LOST_TABLE], compare.contents(source)[LOST_TABLE])

    step("Restore the whole database under another name")
    pgstow("restore", "latest", *store, "--database", DATABASE, "--into", COPY, "--create", "--jobs", "2")
    after = compare.contents(copy)
    for name in sorted(before, key=lambda name: -before[name].rows)[:5]:
        report_equal(f"{before[name].rows:>9,} rows  {name}", before[name], after.get(name))
    report_equal(f"all {len(before)} contents, by number of rows and digest", before, after)
    report_equal(f"all {len(before_definitions)} definitions", before_definitions, compare.definitions(copy))


def connect_pgstow_to(cluster: ThrowawayCluster) -> None:
    """Have each later pgstow reach ``cluster``, and no other server, by the name of a database alone."""
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGSTOW_")]:
        del os.environ[name]
    for name in ("host", "port", "user"):
        os.environ[f"PG{name.upper()}"] = str(conninfo_to_dict(cluster.conninfo())[name])


def step(title: str) -> None:
    """Print the title of a step."""
    print(f"\n{_styled(f'== {title}', BOLD, BLUE)}\n", flush=True)


def pgstow(*arguments: str) -> None:
    """Print and run the real command. Raises subprocess.CalledProcessError if it fails."""
    print(_styled("$", GREEN), _styled(f"pgstow {shlex.join(arguments)}", BOLD), flush=True)
    subprocess.run([Path(sys.executable).with_name("pgstow"), *arguments], check=True)
    print(flush=True)


def report_equal(what: str, expected: object, actual: object) -> None:
    """Print that ``expected`` and ``actual`` are equal. Raise SystemExit if they differ."""
    if actual != expected:
        sys.exit(f"DIFFERENT: {what}. Please report this, with {OUTPUT}.")
    print(f"{_styled('same', GREEN)}: {what}")


def tell_where_to_look(seconds: float) -> None:
    """Print how long the demo took, and commands that show the backup's files."""
    [manifest] = (BACKUPS / "manifests").rglob("*.json")
    data = next((BACKUPS / "data").rglob("pack-*")).parent
    step(f"Done in {seconds:.0f} seconds: the restored table and the restored database equal the originals")
    print(f"The server is stopped. The backup stays in {BACKUPS}. Look at its files:\n")
    for command in (f"less {manifest}", f"ls -l {data}", f"cd {data} && sha256sum -c SHA256SUMS"):
        print(f"  {command}")


def _styled(text: str, *styles: int) -> str:
    return f"\x1b[{';'.join(map(str, styles))}m{text}\x1b[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    main()
