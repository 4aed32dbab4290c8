"""``pgstow schedule``: print timers for ``pgstow run``. A person reads them and installs them."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from cli import run_options
from cli.command import Commands, is_utf8

if TYPE_CHECKING:
    from pipeline.nightly.schedule import Schedule

app = Commands(
    name="schedule", help="Print a timer that starts pgstow run, for systemd, cron or Kubernetes.", no_args_is_help=True
)


def _parse_time(text: str | tuple[int, int]) -> tuple[int, int]:
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", str(text))
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time of the day; write 02:30")
    return int(match[1]), int(match[2])


File: TypeAlias = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The configuration file, on the machine that runs pgstow")
]
At: TypeAlias = Annotated[str, typer.Option(metavar="HH:MM", help="The time of day to start")]
Every: TypeAlias = Annotated[
    Literal["hour", "day", "week", "month"],
    typer.Option(
        metavar="hour|day|week|month",
        help="How often to run. Weekly runs start on Sunday, monthly runs on the first day of the month",
    ),
]
Spread: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SPAN",
        parser=run_options.parse_span,
        help="First wait a random time of at most SPAN, such as 30m, so that not all hosts start at once",
        show_default="30m",
    ),
]

_CONFIG = Path("/etc/pgstow/pgstow.toml")


def _schedule(config: Path, at: str, every: Literal["hour", "day", "week", "month"], spread: int) -> "Schedule":
    from pipeline.errors import InvalidRequest
    from pipeline.nightly.schedule import Schedule

    if not config.is_absolute():
        raise InvalidRequest(f"--config {config} must be an absolute path: timers run in folders of their own.")
    if not is_utf8(str(config)):
        raise InvalidRequest(f"--config {config} is not UTF-8, but a timer must be UTF-8.")
    hour, minute = _parse_time(at)
    return Schedule(hour, minute, every, spread, str(config))


def _program() -> str:
    """Return the absolute path of pgstow, since timers have a PATH of their own."""
    return str(Path(sys.executable).with_name("pgstow"))


@app.command(
    "systemd",
    examples=[
        "pgstow schedule systemd --at 02:30 --spread 30m",
        "pgstow schedule systemd --every hour --user backup --on-failure alarm.service",
    ],
)
def systemd(
    *,
    config: File = _CONFIG,
    at: At = "02:30",
    every: Every = "day",
    spread: Spread = 1800,
    user: Annotated[str, typer.Option(metavar="USER", help="The user that runs pgstow")] = "pgstow",
    on_failure: Annotated[
        str | None, typer.Option(metavar="UNIT", help="The systemd unit to start if a run fails", show_default=False)
    ] = None,
) -> None:
    """Print a systemd service and its timer, for two files in /etc/systemd/system."""
    from pipeline.nightly.schedule import systemd_units

    units = systemd_units(_schedule(config, at, every, spread), _program(), user=user, on_failure=on_failure)
    print("\n".join(f"# /etc/systemd/system/{name}\n{text}" for name, text in units.items()), end="")


@app.command(
    "cron",
    examples=["pgstow schedule cron --at 02:30", "pgstow schedule cron --every week --config /etc/pgstow/shop.toml"],
)
def cron(*, config: File = _CONFIG, at: At = "02:30", every: Every = "day", spread: Spread = 1800) -> None:
    """Print a line for a user's crontab."""
    from pipeline.nightly.schedule import crontab

    print(crontab(_schedule(config, at, every, spread), _program()), end="")


@app.command(
    "kubernetes",
    examples=[
        "pgstow schedule kubernetes --image IMAGE | kubectl apply -f -",
        "pgstow schedule kubernetes --image IMAGE --time-zone Europe/Berlin",
    ],
)
def kubernetes(
    *,
    image: Annotated[str, typer.Option(metavar="IMAGE", help="The container image with pgstow")],
    config: Annotated[
        Path, typer.Option(metavar="FILE", help="The path of the configuration file in the container")
    ] = _CONFIG,
    at: At = "02:30",
    every: Every = "day",
    spread: Spread = 1800,
    time_zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="The time zone of --at, such as Europe/Berlin. Default: the time zone of the Kubernetes cluster",
        ),
    ] = None,
) -> None:
    """Print the manifest of a Kubernetes CronJob."""
    from pipeline.nightly.schedule import cron_job

    print(cron_job(_schedule(config, at, every, spread), image=image, time_zone=time_zone), end="")
