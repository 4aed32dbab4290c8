"""The base of all commands. A command refuses text that isn't UTF-8, says why it refuses an option, and shows examples in its help."""

from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli.refused_options import why_refused
from pipeline.errors import InvalidRequest

_FOLDERS = frozenset({"to", "from_", "after_from"})
"""Parameters that may name a folder. A folder's name may have any bytes."""


class Command(TyperCommand):
    """A command that refuses text that isn't UTF-8, since PostgreSQL and the stores take no other text. Paths may have any bytes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raise InvalidRequest for an option that is refused with a reason, and whatever typer raises."""
        try:
            return super().parse_args(ctx, args)
        except Exception as exc:  # NoSuchOption is click's in some versions of typer, and typer's own in others
            if reason := why_refused(self.name, getattr(exc, "option_name", "")):
                raise InvalidRequest(reason) from exc
            raise

    def invoke(self, ctx: Any) -> Any:
        """Check the parameters, and run the command. Raise InvalidRequest if a text is not UTF-8, and whatever the command raises."""
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            for text in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(text, str) and parameter.name not in _FOLDERS and not is_utf8(text):
                    raise InvalidRequest(f"The text of {parameter.opts[0]} is not UTF-8.")
        try:
            return super().invoke(ctx)
        except typer.Abort as exc:  # Ctrl-D ended the input; Ctrl-C is a signal
            raise InvalidRequest("The question got no answer, so pgstow did nothing.") from exc

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included, as the help shows them."""
        return _adjusted(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, as :meth:`Command.get_params` does."""
        return _adjusted(super().get_params(ctx))


class Commands(typer.Typer):
    """One command, or a group of commands. They parse their arguments as :class:`Command` does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"cls": Group, "add_completion": False, **options})

    def command(self, name: str | None = None, *, examples: Sequence[str] = (), **options: Any) -> Callable[[Any], Any]:
        """Return a decorator that adds a command, as :meth:`typer.Typer.command` does. ``examples`` are command lines for its help."""
        # A paragraph each: some versions of typer join a paragraph's lines.
        epilog = "\n\n".join(("Examples:" if len(examples) > 1 else "Example:", *examples)) if examples else None
        return super().command(name, **{"cls": Command, "epilog": epilog, **options})


def _adjusted(parameters: list[Any]) -> list[Any]:
    """Return the parameters. Keep typer from showing ``<bool>`` for a flag, and ``<str>`` after the name of an argument."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
            if parameter.default is None and not parameter.secondary_opts:  # a flag with --no-FLAG may need the None
                parameter.default = False  # typer would import pydantic to convert None
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = _no_type
    return parameters


def _no_type(ctx: Any) -> None:
    """Return no type for typer to show."""


def is_utf8(text: str) -> bool:
    """True if UTF-8 can encode the text. In an argument, Python replaces bytes that aren't UTF-8 by characters that UTF-8 lacks (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
