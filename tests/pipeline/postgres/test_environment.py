import shutil

import pytest

from pipeline.postgres.environment import for_client, for_no_connection


@pytest.mark.parametrize("path", [None, "", "/nonexistent"])
def test_the_systems_commands_are_found_even_without_path(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard of a working folder calls rm and sleep. A throwaway server may be started with setpriv and unshare."""
    monkeypatch.delenv("PATH")
    if path is not None:
        monkeypatch.setenv("PATH", path)
    for environment in (for_client(), for_no_connection()):
        assert shutil.which("rm", path=environment["PATH"])
        assert "" not in environment["PATH"].split(":")  # an empty entry would be the working directory


def test_programs_write_messages_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    for environment in (for_client(), for_no_connection()):
        assert environment["LC_MESSAGES"] == "C"
        assert not {"LC_ALL", "LANGUAGE"} & environment.keys()
