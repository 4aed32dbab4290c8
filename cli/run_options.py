"""The options of the commands that read pgstow.toml."""

import re
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Config: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="PGSTOW_CONFIG",
        help="The configuration file. Default: pgstow.toml in the current folder, or else /etc/pgstow/pgstow.toml",
        show_default=False,
    ),
]
_CONFIGS = (Path("pgstow.toml"), Path("/etc/pgstow/pgstow.toml"))


def find_config(named: Path | None) -> Path:
    """Return the named configuration file, or else the first usual file that exists. Raise InvalidRequest if none exists."""
    from pipeline.errors import InvalidRequest

    if named is not None:
        return named
    if found := [path for path in _CONFIGS if path.exists()]:
        return found[0]
    raise InvalidRequest(f"There is no {' and no '.join(map(str, _CONFIGS))}: name your file with --config.")


def parse_span(text: str | int) -> int:
    """Return the seconds in ``90``, ``90s``, ``30m`` or ``2h``. Raise typer.BadParameter."""
    match = re.fullmatch(r"(\d{1,6})([smh]?)", str(text).strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a span of time; write 90s, 30m or 2h")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
