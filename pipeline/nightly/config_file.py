"""Reads pgstow.toml."""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.errors import BackupRunning
from pipeline.nightly.references import referred_variables
from pipeline.nightly.settings import Config
from pipeline.toml_file import Problem, TomlFile


class ConfigFile(TomlFile):
    """pgstow.toml."""

    def parse(self, environment: Mapping[str, str]) -> Config:
        """Return the configuration. References are replaced by their values in ``environment``. Raises ConfigInvalid with all problems."""
        return self.validate(Config, environment, _wrong_names(self.content))

    def without_secrets(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment without the variables to which the file refers. They are secrets, and the user's commands don't need them."""
        secrets = set(referred_variables(self.content))
        return {name: value for name, value in environment.items() if name not in secrets}

    @contextmanager
    def sole_run(self) -> Iterator[None]:
        """Lock the file until the block ends, so that no other run uses it. Raises BackupRunning if another run uses the file."""
        with self.path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise BackupRunning(
                    f"Another run with {self.path} is not finished: wait until it has ended, or stop it."
                ) from exc
            yield


def _wrong_names(content: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each destination or retention that a setting names and the file lacks."""
    databases = _table(content, "databases")
    for place in [("defaults",), *(("databases", name) for name in databases)]:
        options = _table(content, *place)
        named = options.get("destinations")
        for name in named if isinstance(named, list) else []:
            if isinstance(name, str) and name not in _table(content, "destinations"):
                yield Problem((*place, "destinations"), f"there is no [destinations.{name}].")
        name = options.get("retention")
        if isinstance(name, str) and name not in _table(content, "retention"):
            yield Problem((*place, "retention"), f"there is no [retention.{name}].")


def _table(content: Any, *place: str) -> Mapping[str, Any]:
    for part in place:
        content = content.get(part, {}) if isinstance(content, dict) else {}
    return content if isinstance(content, dict) else {}
