"""References in pgstow.toml to the environment. The file has ``{env = "NAME"}`` instead of a value."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationInfo, WithJsonSchema

REFERENCE = {
    "type": "object",
    "properties": {"env": {"type": "string", "description": "A variable of the environment"}},
    "required": ["env"],
    "additionalProperties": False,
}
"""The JSON Schema of a reference."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret in the environment."""

    name: str
    """The variable's name."""
    value: str = field(repr=False)
    """The secret; an empty text if the environment lacks the variable."""


def read_secret(value: Any, info: ValidationInfo) -> Secret:
    """Return the secret that a reference names in the environment, which is ``info.context``. Raises ValueError."""
    if not is_reference(value):
        raise ValueError(
            'is a secret, which must not be in this file: write {env = "NAME"} to take it from the environment'
        )
    name = value["env"]
    found = (info.context or {}).get(name) or ""
    _check_utf8(name, found)
    return Secret(name, found)


def resolve(value: Any, info: ValidationInfo) -> tuple[Any, bool]:
    """Return the text, and True if a reference took it from the environment, which is ``info.context``. Raises ValueError."""
    if not is_reference(value):
        if isinstance(value, str):
            return value, False
        raise ValueError('must be a text, or {env = "NAME"} to take it from the environment')
    name = value["env"]
    if not (found := (info.context or {}).get(name)):
        raise ValueError(f"the environment has no {name}")
    _check_utf8(name, found)
    return found, True


def is_reference(value: Any) -> bool:
    """True if the value is ``{env = "NAME"}``, with a name that a variable can have."""
    if not (isinstance(value, dict) and set(value) == {"env"}):
        return False
    name = value["env"]
    return isinstance(name, str) and name != "" and not set(name) & set("=\0")


def referred_variables(content: Any) -> Iterator[str]:
    """Yield the names of the variables that a file's content refers to."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if is_reference(value):
            yield value["env"]
        elif isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value


def text_or_reference(description: str) -> WithJsonSchema:
    """Return the JSON Schema of a text that may also be a reference."""
    return WithJsonSchema({"anyOf": [{"type": "string"}, REFERENCE], "description": description})


def _check_utf8(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the environment's {name} is not UTF-8") from None
