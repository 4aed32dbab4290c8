"""The options of pg_dump that ``pgstow backup`` and ``pgstow check`` pass on."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.options import WHAT
from pipeline.pg_dump_options import SUPPORTED, DumpOption, GivenOption


def with_dump_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with an option for each option of pg_dump. The command gets ``dump_options``, a list of the GivenOptions."""

    @functools.wraps(command)
    def parsed(**parameters: Any) -> None:
        values = {option: parameters.pop(_parameter(option)) for option in SUPPORTED}
        given = [one for option, value in values.items() for one in _given(option, value)]
        command(**parameters, dump_options=given)

    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "dump_options"]
    added = [
        inspect.Parameter(
            _parameter(option),
            inspect.Parameter.KEYWORD_ONLY,
            default=False if option.metavar is None else None,
            annotation=_annotation(option),
        )
        for option in SUPPORTED
    ]
    vars(parsed)["__signature__"] = signature.replace(parameters=[*own, *added])  # inspect and typer read it
    hints = {name: hint for name, hint in command.__annotations__.items() if name != "dump_options"}
    parsed.__annotations__ = hints | {parameter.name: parameter.annotation for parameter in added}
    return parsed


def _parameter(option: DumpOption) -> str:
    return option.name.removeprefix("--").replace("-", "_")


def _annotation(option: DumpOption) -> Any:
    kind: Any = bool if option.metavar is None else list[str] | None if option.repeatable else str | None
    names = [name for name in (option.name, option.short, option.also) if name]
    return Annotated[
        kind, typer.Option(*names, metavar=option.metavar, help=f"{option.help}{_since(option)}", rich_help_panel=WHAT)
    ]


def _since(option: DumpOption) -> str:
    return f" (pg_dump {option.since} and newer)" if option.since else ""


def _given(option: DumpOption, value: Any) -> list[GivenOption]:
    if option.metavar is None:
        return [GivenOption(option)] if value else []
    return [GivenOption(option, text) for text in (value if isinstance(value, list) else [value]) if text is not None]
