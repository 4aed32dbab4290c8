"""What all commands have in common: they refuse text that isn't UTF-8, say why they refuse an option, and have examples in their help."""

from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli.refused_options import why_refused
from pipeline.errors import InvalidRequest

_FOLDERS = frozenset({"to", "from_"})
"""Parameters that may name a folder. A folder's name may have any bytes."""


class Command(TyperCommand):
    """A command that refuses text that isn't UTF-8: neither PostgreSQL nor a store takes other text. Paths may have any bytes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raises InvalidRequest for an option that is refused with a reason, and whatever typer raises."""
        try:
            return super().parse_args(ctx, args)
        except Exception as exc:  # NoSuchOption is click's in some versions of typer, and typer's own in others
            if reason := why_refused(self.name, getattr(exc, "option_name", "")):
                raise InvalidRequest(reason) from exc
            raise

    def invoke(self, ctx: Any) -> Any:
        """Check the parameters, and run the command. Raises InvalidRequest if a text is not UTF-8, and whatever the command raises."""
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            for text in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(text, str) and parameter.name not in _FOLDERS and not is_utf8(text):
                    raise InvalidRequest(f"The text of {parameter.opts[0]} is not UTF-8.")
        try:
            return super().invoke(ctx)
        except typer.Abort as exc:  # the end of the input, as by Ctrl-D; Ctrl-C is a signal
            raise InvalidRequest("The question got no answer, so nothing was done.") from exc

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included. Flags have no type in the help."""
        return _without_types_of_flags(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))


class Commands(typer.Typer):
    """A group of such commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=_Group, **options)

    def command(self, name: str | None = None, *, examples: Sequence[str] = (), **options: Any) -> Callable[[Any], Any]:
        """Return a decorator that adds a command, as :meth:`typer.Typer.command` does. ``examples`` are command lines for its help."""
        # A paragraph each: some versions of typer join a paragraph's lines.
        epilog = "\n\n".join(("Examples:" if len(examples) > 1 else "Example:", *examples)) if examples else None
        return super().command(name, **{"cls": Command, "epilog": epilog, **options})


def _without_types_of_flags(parameters: list[Any]) -> list[Any]:
    """Return the parameters. Typer shows a parameter's metavar, or else its type: ``<bool>`` for a flag, which takes no value."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def is_utf8(text: str) -> bool:
    """True if the text can be encoded in UTF-8. Python turns an argument's other bytes into characters that UTF-8 lacks (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
