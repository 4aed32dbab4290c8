"""Tests that compose.yaml fits its schema, and that its commands work. The tests use this machine's PostgreSQL and rclone, and no images."""

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg.conninfo
import yaml
from support.pgstow import run_pgstow
from support.ports import free_port
from support.postgres_fixtures import DatabaseMaker

FILE = Path(__file__).parents[1] / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
DATABASE, STORE, PGSTOW = (COMPOSE["services"][name] for name in ("database", "store", "pgstow"))
BIN = Path(sys.executable).parent


def test_the_schema() -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    wrong = FILE.read_text("utf-8").replace("read_only: true", "read_only: maybe, maybe not")
    done = subprocess.run([*command, "-"], input=wrong, capture_output=True, text=True, check=False)
    assert done.returncode != 0, "a wrong value would be found"


def test_names_are_those_of_the_file_s_own_services() -> None:
    assert set(PGSTOW["depends_on"]) == {"database", "store"}
    assert PGSTOW["environment"]["PGHOST"] == "database"
    assert PGSTOW["environment"]["PGDATABASE"] == DATABASE["environment"]["POSTGRES_DB"]
    assert PGSTOW["environment"]["PGPASSWORD"] == DATABASE["environment"]["POSTGRES_PASSWORD"]
    assert {config["source"] for config in DATABASE["configs"]} == set(COMPOSE["configs"])
    assert [volume.partition(":")[0] for volume in STORE["volumes"]] == list(COMPOSE["volumes"])
    assert not any("ports" in service for service in COMPOSE["services"].values()), "its passwords are known to all"


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Run the store's command with its data in a folder, and yield its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        word.replace("--addr=:9000", f"--addr={address}").replace("/data", str(folder)) for word in STORE["command"]
    ]
    [volume] = STORE["volumes"]
    (folder / Path(volume.partition(":")[2]).relative_to("/data")).mkdir(parents=True)
    cache = f"--cache-dir={folder.with_name('cache')}"
    with subprocess.Popen([BIN / "rclone", *command, cache], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://{address}/").close()
                except urllib.error.HTTPError:
                    break  # it wants a signature
                except OSError:
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()


def test_its_commands_back_up_and_prove(make_database: DatabaseMaker, tmp_path: Path) -> None:
    database = make_database(PGSTOW["environment"]["PGDATABASE"])
    database.execute(COMPOSE["configs"]["sample"]["content"])
    server = psycopg.conninfo.conninfo_to_dict(database.conninfo)
    commands = re.findall(r"^#   docker compose (up|run --rm pgstow) (.*)$", FILE.read_text("utf-8"), re.MULTILINE)
    assert [command for command, _ in commands] == ["up", "run --rm pgstow", "run --rm pgstow"]
    with serve(tmp_path / "data") as address:
        here = {"PGHOST": str(server["host"]), "PGPORT": str(server["port"])}
        store = PGSTOW["environment"]["PGSTOW_STORE"].replace("store:9000", address)
        env = PGSTOW["environment"] | here | {"PGSTOW_STORE": store}
        for _, arguments in commands[1:]:
            result = run_pgstow(*arguments.split(), env=env)
            assert result.exit_code == 0, result
    assert "101,000 rows" in result.stdout + result.stderr
