"""What all commands have in common: the text that they take is text."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from pipeline.errors import InvalidRequest

_FOLDERS = frozenset({"to", "from_"})
"""Parameters that may be a folder, whose name has any bytes."""


class Command(TyperCommand):
    """A command that refuses text which isn't UTF-8; nothing that it is for could take it. Paths may have any bytes."""

    def invoke(self, ctx: Any) -> Any:
        """Check the parameters, and run the command. Raises InvalidRequest."""
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            for text in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(text, str) and parameter.name not in _FOLDERS and not is_utf8(text):
                    raise InvalidRequest(f"The text of {parameter.opts[0]} is not UTF-8.")
        return super().invoke(ctx)


class Commands(typer.Typer):
    """A group of such commands."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Add one, as :meth:`typer.Typer.command` does."""
        return super().command(name, cls=Command, **options)


def is_utf8(text: str) -> bool:
    """True if UTF-8 has the text. Python gives bytes of an argument that aren't UTF-8 as characters that UTF-8 lacks (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
