"""``pgstow schedule``: print timers for ``pgstow run``, to be read and then installed."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from cli import run_options
from cli.command import Commands, is_utf8

if TYPE_CHECKING:
    from pipeline.nightly.schedule import Schedule

app = Commands(help="Print a timer for pgstow run.", no_args_is_help=True)


def _parse_time(text: str | tuple[int, int]) -> tuple[int, int]:
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", str(text))
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time of the day; write 02:30")
    return int(match[1]), int(match[2])


File: TypeAlias = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="Where pgstow.toml is, on the machine that runs it")
]
At: TypeAlias = Annotated[str, typer.Option(metavar="HH:MM", help="The time of the day: off-peak")]
Every: TypeAlias = Annotated[
    Literal["hour", "day", "week", "month"],
    typer.Option(help="How often; a week's day is Sunday, a month's the first"),
]
Spread: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SPAN",
        parser=run_options.parse_span,
        help="Begin at a random moment within so long, so that not all hosts begin at once",
        show_default="30m",
    ),
]

_CONFIG = Path("/etc/pgstow/pgstow.toml")


def _schedule(config: Path, at: str, every: Literal["hour", "day", "week", "month"], spread: int) -> "Schedule":
    from pipeline.errors import InvalidRequest
    from pipeline.nightly.schedule import Schedule

    if not config.is_absolute():
        raise InvalidRequest(f"Say where {config} is by a path from the root: timers run in folders of their own.")
    if not is_utf8(str(config)):
        raise InvalidRequest(f"{config} is not UTF-8, and a timer must be.")
    hour, minute = _parse_time(at)
    return Schedule(hour, minute, every, spread, str(config))


def _program() -> str:
    """Return the absolute path of pgstow: timers have their own PATH."""
    return str(Path(sys.executable).with_name("pgstow"))


@app.command("systemd", examples=["pgstow schedule systemd --at 02:30 --spread 30m"])
def systemd(
    *,
    config: File = _CONFIG,
    at: At = "02:30",
    every: Every = "day",
    spread: Spread = 1800,
    user: Annotated[str, typer.Option(metavar="NAME", help="Who runs it")] = "pgstow",
    on_failure: Annotated[
        str | None, typer.Option(metavar="UNIT", help="A unit to start when a run fails", show_default=False)
    ] = None,
) -> None:
    """A service and its timer, for two files of /etc/systemd/system."""
    from pipeline.nightly.schedule import systemd_units

    units = systemd_units(_schedule(config, at, every, spread), _program(), user=user, on_failure=on_failure)
    print("\n".join(f"# /etc/systemd/system/{name}\n{text}" for name, text in units.items()), end="")


@app.command("cron", examples=["pgstow schedule cron --at 02:30"])
def cron(*, config: File = _CONFIG, at: At = "02:30", every: Every = "day", spread: Spread = 1800) -> None:
    """A line for a user's crontab."""
    from pipeline.nightly.schedule import crontab

    print(crontab(_schedule(config, at, every, spread), _program()), end="")


@app.command("kubernetes", examples=["pgstow schedule kubernetes --image IMAGE | kubectl apply -f -"])
def kubernetes(
    *,
    image: Annotated[str, typer.Option(metavar="IMAGE", help="The container image that has pgstow")],
    config: File = _CONFIG,
    at: At = "02:30",
    every: Every = "day",
    spread: Spread = 1800,
    time_zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Of the time, such as Europe/Berlin; the cluster's own by default"),
    ] = None,
) -> None:
    """A CronJob's manifest."""
    from pipeline.nightly.schedule import cron_job

    print(cron_job(_schedule(config, at, every, spread), image=image, time_zone=time_zone), end="")
