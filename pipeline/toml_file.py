"""Reads TOML files of settings. Reports all problems at once, each with its line."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import ConfigInvalid, InvalidRequest

Key = tuple[str | int, ...]
"""The path to a value in the file, such as ``("databases", "shop", "jobs")``."""

_DEEPEST = 20


class Settings(BaseModel):
    """A table of a file of settings, or the whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_S = TypeVar("_S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in the file."""

    key: Key
    words: str
    """The rest of a sentence that begins with the key."""


class TomlFile:
    """A file of settings, which can tell the line of each key."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        """Read the file, or use ``text`` instead. Raises InvalidRequest if it can't be read, and ConfigInvalid if it isn't TOML."""
        self.path = path
        try:
            self._text = path.read_text("utf-8") if text is None else text
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidRequest(f"Cannot read {path}: {getattr(exc, 'strerror', None) or 'it is not UTF-8'}.") from exc
        except ValueError as exc:
            raise InvalidRequest(f"Cannot read {path}: a file can't have this name.") from exc
        try:
            self.content = tomllib.loads(self._text)
        except ValueError as exc:  # a number with thousands of digits raises this error, and not TOMLDecodeError
            raise ConfigInvalid([f"{path}: it is not TOML: {exc}."]) from exc
        except RecursionError as exc:
            raise ConfigInvalid([f"{path}: its tables or arrays are nested too deeply."]) from exc

    def validate(
        self, model: type[_S], context: Mapping[str, str] | None = None, further: Iterable[Problem] = ()
    ) -> _S:
        """Return the settings. ``context`` goes to the validators. ``further`` are problems that the model can't find.

        Raises ConfigInvalid with all problems.
        """
        problems = [*_nul_characters(self.content), *further]
        try:
            settings = model.model_validate(self.content, context=context)
        except ValidationError as exc:
            raise self.invalid(
                [_problem(error, model) for error in exc.errors()] + problems
            ) from None  # the cause would show the values, which may be secrets
        if problems:
            raise self.invalid(problems)
        return settings

    def invalid(self, problems: Sequence[Problem]) -> ConfigInvalid:
        """Return an error that names the problems, each with its line, in the order of the lines."""
        lines = [(self.line_of(problem.key), problem) for problem in problems]
        lines.sort(key=lambda found: found[0])
        return ConfigInvalid(
            [
                ": ".join(filter(None, (f"{self.path}:{line}", ".".join(map(str, problem.key)), problem.words)))
                for line, problem in lines
            ]
        )

    def line_of(self, key: Key) -> int:
        """Return the line of a key, from 1. If the file lacks the key, return the line of the table to which the key would belong.

        tomllib reports no lines. But the first lines of a file are valid TOML if they end between two statements, and invalid if they end
        within a statement. So the key's statement begins after the longest valid part that lacks the key.
        """
        lines = self._text.split("\n")
        while key and not _has(self.content, key):
            key = key[:-1]
        before = 0
        for end in range(len(lines) + 1):
            try:
                content = tomllib.loads("\n".join(lines[:end]))
            except tomllib.TOMLDecodeError:
                continue
            if _has(content, key):
                break
            before = end
        return before + 1


def _has(content: Any, key: Key) -> bool:
    for part in key:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _nul_characters(content: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each text with a NUL character, and for deep nesting. Paths, names, variables and arguments can't have a NUL."""
    waiting: list[tuple[Key, Any]] = [((), content)]
    while waiting:
        place, value = waiting.pop()
        if len(place) > _DEEPEST:
            yield Problem(place[:1], "is nested too deeply.")
            return
        if isinstance(value, str) and "\0" in value:
            yield Problem(place, "contains a NUL character.")
        if isinstance(value, dict):
            if any("\0" in name for name in value):
                yield Problem(place, "has a key with a NUL character.")
            waiting += [((*place, name), each) for name, each in value.items()]
        if isinstance(value, list):
            waiting += [((*place, number), each) for number, each in enumerate(value)]


def _problem(error: Any, model: type[Settings]) -> Problem:
    """Return an error of pydantic as a problem in words. The words don't contain the value, which may be a secret in the wrong place."""
    key: Key = error["loc"]
    if key[-1:] == ("[key]",):  # pydantic's word for a key that is itself not valid
        key = key[:-1]
    match error["type"]:
        case "missing":
            words = "is missing"
        case "extra_forbidden":
            close = get_close_matches(str(key[-1]), _known_keys(model, key[:-1]), n=1)
            words = "there is no such key" + (f"; did you mean {close[0]}?" if close else "")
        case "value_error":
            words = str(error["ctx"]["error"])
        case "too_short" | "string_too_short":
            words = "is empty"
        case _:
            words = error["msg"].replace("Input should", "should", 1)
    return Problem(key, words if words[-1] in ".?" else f"{words}.")


def _known_keys(whole: type[Settings], place: Key) -> list[str]:
    """Return the keys that the table at ``place`` may have, in a file of the model ``whole``."""
    model: type[BaseModel] = whole
    for part in place:
        if part in model.model_fields:
            kinds = [kind for kind in _kinds(model.model_fields[str(part)].annotation) if issubclass(kind, BaseModel)]
            model = kinds[0] if kinds else model
    return list(model.model_fields)


def _kinds(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)
