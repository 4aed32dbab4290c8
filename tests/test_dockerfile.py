"""Tests that read the Dockerfile. No test builds an image."""

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """Return the name and the arguments of each instruction. Continued lines are joined."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(place for place, (name, _) in enumerate(found) if name == "FROM") :]


def copied_from_the_context() -> list[str]:
    copies = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from=")]
    return [source for words in copies for source in words[:-1]]


def is_ignored(path: str) -> bool:
    """True if .dockerignore excludes the path. The last line that matches decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if line and not line.startswith("#") and fnmatch(path, line.removeprefix("!")):
            ignored = not line.startswith("!")
    return ignored


def test_every_instruction_is_known() -> None:
    known = {"ARG", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER", "VOLUME", "WORKDIR"}
    assert {name for name, _ in instructions()} <= known


def test_base_and_client_are_pinned() -> None:
    arguments = dict(rest.split("=", 1) for name, rest in instructions() if name == "ARG")
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", arguments["BASE"])
    assert re.fullmatch(r"\d+", arguments["POSTGRESQL_MAJOR"])
    assert all(rest.startswith("${BASE}") for name, rest in instructions() if name == "FROM")
    install = next(rest for name, rest in instructions() if name == "RUN" and "pip install" in rest)
    assert "--constraint requirements.lock" in install


def test_python_is_new_enough() -> None:
    minor = re.search(r"python:3\.(\d+)\.", (ROOT / "Dockerfile").read_text("utf-8"))
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert minor
    assert int(minor[1]) >= int(requires.removeprefix(">=3."))


def test_it_runs_without_rights_and_is_started_without_a_shell() -> None:
    stage = final_stage()
    [user] = [rest for name, rest in stage if name == "USER"]
    [entry] = [json.loads(rest) for name, rest in stage if name == "ENTRYPOINT"]
    assert user == "10001", "Kubernetes knows only by a number that the user isn't root"
    assert entry == ["pgstow"]
    after = [name for name, _ in stage[[name for name, _ in stage].index("USER") :]]
    assert "RUN" not in after
    assert "COPY" not in after


def test_the_spool_belongs_to_the_user() -> None:
    stage = dict(final_stage())
    assert "--owner pgstow" in stage["RUN"]
    assert stage["VOLUME"] == stage["WORKDIR"] == "/spool"
    assert "TMPDIR=/spool" in stage["ENV"], "TMPDIR is the default of --spool-dir"


def test_the_context_has_what_is_copied_and_what_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    metadata = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed = {*metadata, *wheel["packages"], wheel["hooks"]["custom"]["path"]}
    copied = copied_from_the_context()
    assert needed <= set(copied)
    for path in copied:
        assert (ROOT / path).exists(), path
        assert not is_ignored(path), path


def test_secrets_and_history_stay_out_of_the_context() -> None:
    for path in (".git", ".venv", ".env", "pgstow.toml", "tests", "terraform", ".terraform-tools"):
        assert is_ignored(path), path
