"""A server that asks for a password. Each way in which libpq takes a password works, and the password is seen nowhere else."""

import dataclasses
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Self

import psycopg
import pytest
from support.faulty_backups import dumps
from support.in_process import call_pgstow
from support.object_stores import StoreBucket
from support.pgstow import (
    PATIENCE,
    Result,
    assert_one_sentence,
    committed_backups,
    finish,
    run_pgstow,
    start_pgstow,
    wait_until,
)
from support.ports import free_port
from support.postgres_fixtures import Database

from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends import open_backend

BAD_INPUT, SERVER = 2, 3
PASSWORD = "pass:w\\ord 'with'\"odd=chars%/@"
RULES = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
QUOTED = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")


@dataclass(frozen=True)
class GuardedServer:
    """A database whose role ``keeper`` logs in over TCP by its password alone."""

    port: int
    administered: Database
    """The same database through the server's socket, as the superuser."""

    @property
    def conninfo(self) -> str:
        """The connection string without the password."""
        return f"host=127.0.0.1 port={self.port} user=keeper dbname=kept"


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedServer]:
    port = free_port()
    rules = Path(tempfile.mkdtemp(dir="/tmp"))  # the server's user may not look into pytest's own folders
    rules.chmod(0o755)
    (rules / "pg_hba.conf").write_text(RULES)
    try:
        with ThrowawayCluster(port=port, settings={"hba_file": str(rules / "pg_hba.conf")}) as cluster:
            with closing(psycopg.connect(cluster.conninfo(), autocommit=True)) as connection:
                connection.execute("CREATE ROLE keeper LOGIN PASSWORD " + psycopg.sql.quote(PASSWORD))
                connection.execute("CREATE DATABASE kept OWNER keeper")
            administered = Database("kept", cluster.conninfo("kept"))
            administered.execute("SET ROLE keeper; CREATE TABLE kept AS SELECT 1 AS id")
            yield GuardedServer(port, administered)
    finally:
        shutil.rmtree(rules)


@pytest.fixture(autouse=True)
def _no_password_of_the_developers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def private(path: Path, content: str) -> str:
    path.write_text(content)
    path.chmod(0o600)
    return str(path)


def backup(conninfo: str, store: Path, spool_dir: Path, **env: str) -> Result:
    return run_pgstow("backup", conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet", env=env)


@pytest.mark.parametrize("way", ["conninfo", "URI", "PGPASSWORD", "PGPASSFILE", "~/.pgpass", "service file"])
def test_every_way_to_give_a_password(guarded: GuardedServer, tmp_path: Path, spool_dir: Path, way: str) -> None:
    conninfo, env = guarded.conninfo, {}
    line = "*:*:*:keeper:" + PASSWORD.replace("\\", "\\\\").replace(":", "\\:") + "\n"
    match way:
        case "conninfo":
            conninfo += f" password='{QUOTED}'"
        case "URI":
            encoded = "".join(f"%{byte:02X}" for byte in PASSWORD.encode())
            conninfo = f"postgresql://keeper:{encoded}@127.0.0.1:{guarded.port}/kept"
        case "PGPASSWORD":
            env = {"PGPASSWORD": PASSWORD}
        case "PGPASSFILE":
            env = {"PGPASSFILE": private(tmp_path / "passfile", line)}
        case "~/.pgpass":
            private(tmp_path / ".pgpass", line)
        case "service file":
            service = f"[kept]\nhost=127.0.0.1\nport={guarded.port}\nuser=keeper\ndbname=kept\npassword={PASSWORD}\n"
            env = {"PGSERVICEFILE": private(tmp_path / "services", service)}
            conninfo = "service=kept"
    result = backup(conninfo, tmp_path / "store", spool_dir, **env)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(committed_backups(tmp_path / "store")) == 1
    assert_unseen(PASSWORD, result, tmp_path / "store")


def test_the_connection_strings_password_is_the_one(guarded: GuardedServer, tmp_path: Path, spool_dir: Path) -> None:
    """pgstow's own session and pg_dump both use this password, even if the environment has another password."""
    result = backup(f"{guarded.conninfo} password='{QUOTED}'", tmp_path / "store", spool_dir, PGPASSWORD="another's")
    assert (result.exit_code, result.stderr) == (0, "")


def test_secrets_that_a_command_line_would_show(guarded: GuardedServer, tmp_path: Path, spool_dir: Path) -> None:
    for secret in ("sslpassword", "scram_client_key"):
        key = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY="
        result = backup(f"{guarded.administered.conninfo} {secret}={key}", tmp_path / "store", spool_dir)
        if "libpq does not understand the connection string" in result.stderr:
            continue  # this libpq refuses the parameter, so no program gets the secret
        assert_one_sentence(result, 2, secret)
        assert_unseen(key, result, tmp_path / "store")


@pytest.mark.parametrize("given", [" password='wro:ng secret'", ""], ids=["wrong", "none"])
def test_a_password_that_does_not_fit(guarded: GuardedServer, tmp_path: Path, spool_dir: Path, given: str) -> None:
    result = backup(guarded.conninfo + given, tmp_path / "store", spool_dir)
    words = 'password authentication failed for user "keeper"' if given else "no password supplied"
    assert_one_sentence(result, SERVER, f"Cannot connect to the server at .*{words}")
    assert_unseen("wro:ng secret", result, tmp_path / "store")
    assert not committed_backups(tmp_path / "store")


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://keeper:sec/ret@host/x?y",
        "host=x password='secret",
        "host=x secret='1'",
        "postgresql://u:sec ret@h",
    ],
)
def test_what_libpq_does_not_understand_is_not_repeated(tmp_path: Path, spool_dir: Path, conninfo: str) -> None:
    result = backup(conninfo, tmp_path / "store", spool_dir)
    assert_one_sentence(result, 2)
    assert "sec" not in result.stderr.replace("exec", "")


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["", "debug"])
def test_a_password_is_on_no_command_line_and_in_no_log(
    guarded: GuardedServer, tmp_path: Path, spool_dir: Path, debug: tuple[str, ...]
) -> None:
    """The test looks for the password while pg_dump waits for a table that another session has locked."""
    conninfo = f"{guarded.conninfo} password='{QUOTED}'"
    command = ["backup", conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir]
    with (
        closing(psycopg.connect(guarded.administered.conninfo)) as locking,
        start_pgstow(*debug, *command) as process,
    ):
        locking.execute("LOCK TABLE kept")
        wait_until(lambda: waiting_dumps(guarded), "pg_dump waits for the lock")
        assert dumps(spool_dir)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                shown = path.read_text("utf-8", "replace")
                assert path.parent.name == str(process.pid) or PASSWORD not in shown, shown
        kept = [
            path for path in spool_dir.rglob("*") if path.is_file() and "with" in path.read_text("utf-8", "replace")
        ]
        assert [(path.name, path.stat().st_mode & 0o777) for path in kept] == [("passfile", 0o600)]
        assert all(path.stat().st_mode & 0o077 == 0 for path in spool_dir.rglob("*"))
        guarded.administered.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgstow %'"
        )
        result = finish(process, PATIENCE)
    assert result.exit_code == 4
    assert_unseen(PASSWORD, result, tmp_path / "store")
    assert_unseen(QUOTED, result, tmp_path / "store")


def waiting_dumps(guarded: GuardedServer) -> list[tuple]:
    return guarded.administered.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgstow %' AND wait_event_type = 'Lock'"
    )


def assert_unseen(secret: str, result: Result, store: Path) -> None:
    """Assert that the secret is neither in pgstow's output nor in the store."""
    assert secret not in result.stdout + result.stderr
    for path in store.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


class Secrets:
    """Random words that the test uses as secrets. In a ``with`` block, a thread looks for them in the command lines of all processes."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self._shown = set[str]()
        self._ended = Event()
        self._watch = Thread(target=self._look)

    def __getitem__(self, place: str) -> str:
        return self.words.setdefault(place, f"sEcReT{secrets.token_hex(8)}")

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    self._shown |= self.seen_in(path.read_bytes())

    def seen_in(self, data: bytes) -> set[str]:
        return {place for place, word in list(self.words.items()) if word.encode() in data}

    @property
    def shown(self) -> set[str]:
        """The places whose words a command line contained."""
        return self._shown


def test_no_secret_leaves_its_place_in_a_whole_night(
    guarded: GuardedServer, s3_bucket: StoreBucket, spool_dir: Path, tmp_path: Path
) -> None:
    """The night has good and failed backups, proofs, hooks and pings, and runs with --debug."""
    planted, config, textfile = Secrets(), tmp_path / "pgstow.toml", tmp_path / "pgstow.prom"
    with planted:
        guarded.administered.execute(f"ALTER ROLE keeper PASSWORD '{planted['password']}'")
        where = f"host=127.0.0.1 port={guarded.port} user=keeper dbname=kept"
        env = {
            "PGPASSWORD": planted["PGPASSWORD"],
            "AWS_SECRET_ACCESS_KEY": planted["AWS_SECRET_ACCESS_KEY"],
            "AWS_SESSION_TOKEN": planted["AWS_SESSION_TOKEN"],
            "URI": f"postgresql://keeper:{planted['password']}@127.0.0.1:{guarded.port}/kept",
            "WRONG_URI": f"postgresql://keeper:{planted['wrong URI']}@127.0.0.1:{guarded.port}/kept",
            "KEYWORDS": f"{where} password='{planted['wrong keyword']}'",
            "CLIENT_KEY": f"{where} password='{planted['password']}' sslpassword='{planted['sslpassword']}'",
            "BROKEN": f"{where} password='{planted['broken conninfo']}",
            "PING": f"http://127.0.0.1:1/{planted['ping']}",
            "TOKEN": planted["variable of a hook"],
        }
        private(tmp_path / "password", planted["password"] + "\n")
        private(tmp_path / "wrong", planted["password_file"] + "\n")
        private(tmp_path / "passfile", f"*:*:*:*:{planted['passfile']}\n")
        (tmp_path / "nas").mkdir()
        config.write_text(
            f'[defaults]\nspool_dir = "{spool_dir}"\nverify = "restore"\njobs = 1\n'
            f'[destinations.s3]\nurl = "{s3_bucket.url}"\n[destinations.nas]\nurl = "{tmp_path}/nas"\n'
            '[databases.uri]\nconninfo = {env = "URI"}\ndestinations = ["s3"]\n'
            f'[databases.file]\nconninfo = "{where}"\npassword_file = "{tmp_path}/password"\nverify = "none"\n'
            '[databases.wrong_uri]\nconninfo = {env = "WRONG_URI"}\n[databases.keywords]\nconninfo = {env = "KEYWORDS"}\n'
            '[databases.client_key]\nconninfo = {env = "CLIENT_KEY"}\n'
            f'[databases.environment]\nconninfo = "{where}"\n'
            f'[databases.wrong_file]\nconninfo = "{where}"\npassword_file = "{tmp_path}/wrong"\n'
            f'[databases.passfile]\nconninfo = "{where} passfile={tmp_path}/passfile"\n'
            f'[monitoring]\ntextfile = "{textfile}"\nping = {{env = "PING"}}\n'
            'on_failure = ["sh", "-c", "cat >$OUT; exit 3"]\n'
        )
        told = tmp_path / "told"
        command = ["--debug", "run", "--config", config, "--log-format", "json", "--json"]
        result = run_pgstow(*command, env={**env, "OUT": str(told)})
        assert result.exit_code == BAD_INPUT  # the database client_key has a secret that pgstow refuses
        good = {one["database"]: one["good"] for one in json.loads(result.stdout)["backups"]}
        assert {database for database, fine in good.items() if fine} == {"uri", "file"}
        assert "Traceback" in result.stderr
        for broken in (
            '[databases.a]\nconninfo = {env = "BROKEN"}',
            f'[databases.a]\nconninfo = "password={planted["conninfo of the file"]}"',
            f'[databases.a]\nconninfo = ""\npassword = "{planted["unknown key"]}"',
            f'[databases.a]\nconninfo = ""\njobs = "{planted["wrong type"]}"',
            f'[destinations.a]\nurl = "s3://u:{planted["URL"]}@bucket"',
            f'[destinations.a]\nurl = "s3://u:{planted["odd URL"]}@ho\u2100st"',
            f'[destinations.a]\nurl = "s3://?x={planted["query"]}"',
            f'[destinations.a]\nurl = "s3://b?secret={planted["unknown option"]}"',
            f'[destinations.a]\nurl = "s3://b?endpoint=http://u:{planted["endpoint"]}@host"',
            f'[destinations.a]\nurl = "gs://b?endpoint=http://u:{planted["odd endpoint"]}@ho\u2100st"',
            f'[monitoring]\nping = "https://u:{planted["user of a ping"]}@host/"',
            f'[monitoring]\nping = "https://u:{planted["odd ping"]}@ho\u2100st/"',
            f'[monitoring]\nping = "https://host:{planted["port of a ping"]}/"',
        ):
            config.write_text(broken, "utf-8")
            refused = call_pgstow("--debug", "config", "check", "--config", config, env=env)
            assert refused.exit_code == BAD_INPUT, refused
            result = dataclasses.replace(result, stderr=result.stderr + refused.stdout + refused.stderr)
    guarded.administered.execute("ALTER ROLE keeper PASSWORD " + psycopg.sql.quote(PASSWORD))
    assert planted.shown == set()
    said = {"standard output": result.stdout.encode(), "standard error": result.stderr.encode()}
    with closing(open_backend(s3_bucket.url)) as store:
        said |= {info.key: store.get(info.key) for info in store.list()}
    for folder in (spool_dir, tmp_path / "nas"):
        said |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said |= {path.name: path.read_bytes() for path in (textfile, told)}
    assert {place: seen for place, data in said.items() if (seen := planted.seen_in(data))} == {}
    assert len(said) > 10


def test_a_file_that_pgstow_toml_names(guarded: GuardedServer, spool_dir: Path, tmp_path: Path) -> None:
    config, store = tmp_path / "pgstow.toml", tmp_path / "store"
    store.mkdir()
    config.write_text(
        f'[destinations.nas]\nurl = "{store}"\n'
        f'[databases.kept]\nconninfo = "{guarded.conninfo}"\nspool_dir = "{spool_dir}"\n'
        f'password_file = "{tmp_path}/password"\n'
    )
    private(tmp_path / "password", "wrong\n")
    assert_one_sentence(run_pgstow("run", "--config", config, "--json"), SERVER, "kept at nas: .*password")
    private(tmp_path / "password", f"{PASSWORD}\n")
    result = run_pgstow("run", "--config", config, "--json", "--log-format", "json")
    assert result.exit_code == 0
    assert len(committed_backups(store)) == 1
    written = [path.read_text("utf-8") for path in store.rglob("*.json")] + [result.stdout, result.stderr]
    assert not any(secret in text for text in written for secret in (PASSWORD, QUOTED))
