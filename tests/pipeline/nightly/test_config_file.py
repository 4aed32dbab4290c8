"""Tests of pgstow.toml: valid files become jobs, and all problems are reported at once, each with its line."""

import itertools
import tomllib
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.attestation import Level
from pipeline.errors import BackupRunning, ConfigInvalid, InvalidRequest
from pipeline.nightly.config_file import ConfigFile
from pipeline.nightly.jobs import Job, make_jobs
from pipeline.nightly.settings import Config
from pipeline.postgres.conninfo import Conninfo
from pipeline.prune.policy import Policy
from pipeline.verify.proof import Assertion, ProofRequest

LEAST = """
[destinations.nas]
url = "/mnt/backups"
[databases.shop]
conninfo = "service=shop"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pgstow.toml"


def parse(path: Path, text: str, **environment: str) -> Config:
    path.write_text(text, "utf-8")
    return ConfigFile(path).parse(environment)


def problems(path: Path, text: str, **environment: str) -> list[str]:
    """Return the problems that are reported, without the file's name."""
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigInvalid) as caught:
        jobs(path, text, **environment)
    assert all(problem.startswith(f"{path}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def jobs(path: Path, text: str, *names: str, overrides: dict[str, Any] | None = None, **environment: str) -> list[Job]:
    config = parse(path, text, **environment)
    return make_jobs(ConfigFile(path), config, names, overrides or {})


def test_the_shortest_valid_file_is_enough(path: Path) -> None:
    [job] = jobs(path, LEAST)
    assert (job.name, list(job.destinations), job.verify, job.retention) == ("shop", ["nas"], None, None)
    assert job.request.source.parameters == {"service": "shop"}
    assert job.request.format == "directory"


def test_a_database_overrides_defaults_and_flags_override_both(path: Path) -> None:
    text = """
        [defaults]
        cluster = "prod"
        jobs = 4
        memory = "1GiB"
        destinations = ["offsite", "nas"]
        verify = "archive"
        pg_dump_options = ["-x"]
        [destinations.offsite]
        url = "s3://my-backups/postgres?region=eu-central-1"
        [destinations.nas]
        url = "/mnt/backups"
        [databases.shop]
        conninfo = "service=shop"
        jobs = 2
        verify = "none"
        pg_dump_options = ["--no-comments", "--role=reader", "--table-and-children=a"]
        [databases.server]
        conninfo = "host=db.example.com user=backup"
        all_databases = true
        exclude_databases = ["test_*"]
        destinations = ["nas"]
        [retention.default]
        keep_last = 3
        keep_within = "8w"
        keep_tagged = ["release"]
        only_verified = "archive"
    """
    shop, server = jobs(path, text)
    assert (shop.request.limits.jobs, shop.verify, list(shop.destinations)) == (2, None, ["offsite", "nas"])
    assert (server.request.limits.jobs, server.verify, list(server.destinations)) == (4, Level.ARCHIVE, ["nas"])
    assert server.request.source.database is None  # pgstow asks the server for its databases
    assert shop.request.selection.arguments() == ["--no-comments", "--role=reader", "--table-and-children=a"]
    assert shop.request.source.role == "reader"
    assert server.request.selection.arguments() == ["--no-privileges"]
    assert {job.request.limits.memory for job in (shop, server)} == {1024**3}
    assert {job.request.cluster for job in (shop, server)} == {"prod"}
    assert shop.retention == Policy(
        keep_last=3,
        keep_within=timedelta(weeks=8),
        keep_tagged=frozenset({"release"}),
        only_verified=Level.ARCHIVE,
    )
    assert server.retention == shop.retention

    [shop] = jobs(path, text, "shop", overrides={"jobs": 8, "destinations": ["nas"], "verify": "bytes", "memory": None})
    assert (shop.request.limits.jobs, shop.verify, list(shop.destinations)) == (8, Level.BYTES, ["nas"])


def test_all_problems_are_reported_at_once_with_their_lines(path: Path) -> None:
    text = """\
[defaults]
jobs = "4"
destinations = [
    "offsite",  # which there isn't
    "nas",
]
[destinations.nas]
url = "ftp://my-backups/postgres"

[databases.shop]
conninfo = "service=shop"
exclude_tabledata = ["audit.*"]
memory = "plenty"
[databases.server]
all_databases = true
verify = "all"
retention = "long"
[databases.odd]
conninfo = '''
host=db.example.com
dbname
'''
[monitoring]
on_failure = []
ping = "ftp://hc.example.com"
textfile = "/var/lib/pgstow.txt"
[retention.default]
keep_within = "30 days"
keep_last = -1
[retention.none]
only_verified = "bytes"
[monitorin]
"""
    assert problems(path, text) == [
        "2: defaults.jobs: should be a valid integer.",
        "3: defaults.destinations: there is no [destinations.offsite].",
        "8: destinations.nas.url: ftp:// is no known store; use s3://bucket/prefix, gs://bucket/prefix or a path.",
        "12: databases.shop.exclude_tabledata: there is no such key; did you mean exclude_table_data?",
        "13: databases.shop.memory: 'plenty' is not a size; write 268435456, 256MiB or 1GiB.",
        "14: databases.server.conninfo: is missing.",
        "16: databases.server.verify: should be 'objects', 'bytes', 'archive', 'restore' or 'none'.",
        "17: databases.server.retention: there is no [retention.long].",
        "19: databases.odd.conninfo: libpq does not understand the connection string; write it as "
        "postgresql://user@host/database or as 'host=… dbname=…' (special characters in a URI percent-encoded).",
        "24: monitoring.on_failure: is empty.",
        "25: monitoring.ping: must be like https://host/path.",
        "26: monitoring.textfile: must end in .prom: node_exporter reads no other file.",
        "28: retention.default.keep_within: '30 days' is not a duration; write 36h, 30d or 8w.",
        "29: retention.default.keep_last: should be greater than or equal to 0.",
        "30: retention.none: has no rule that keeps backups: add one, such as keep_daily = 7.",
        "32: monitorin: there is no such key; did you mean monitoring?",
    ]


def test_contradictions_are_reported_for_each_database(path: Path) -> None:
    text = """\
[defaults]
destinations = ["nas"]
memory = "1MiB"
[destinations.nas]
url = "/mnt/backups"
[databases.shop]
conninfo = "service=shop"
[databases.one]
conninfo = ""
memory = "1GiB"
exclude_databases = ["test_*"]
[databases.all]
conninfo = ""
memory = "1GiB"
all_databases = true
tables = ["shop.*"]
[databases.rows]
conninfo = ""
memory = "1GiB"
all_databases = true
format = "plain"
only = "data"
[databases.inserted]
conninfo = ""
memory = "1GiB"
pg_dump_options = ["--inserts"]
[databases.tagged]
conninfo = ""
memory = "1GiB"
tags = [" "]
role_passwords = false
[databases.twice]
conninfo = ""
memory = "1GiB"
destinations = ["nas", "same"]
[destinations.same]
url = "file:///mnt/backups"
"""
    assert problems(path, text) == [
        "6: databases.shop: The memory limit must hold two objects of 32 MiB each, but is only 1 MiB: see --memory and --object-size.",
        "8: databases.one: exclude_databases needs all_databases = true.",
        "12: databases.all: A backup of all databases can't select parts of them: leave out what chooses or excludes tables and schemas.",
        "17: databases.rows: pg_dumpall's script with only rows can't be restored onto a new server: back up the definitions, too.",
        "23: databases.inserted: pgstow doesn't take pg_dump's option --inserts: pgstow counts rows in COPY's output, not in INSERTs.",
        "27: databases.tagged: ' ' can't be a tag: it is empty, or has characters that can't be printed.",
        "32: databases.twice: Two of its destinations have the same url, which can hold only one copy of a backup.",
    ]


def test_a_missing_variable_for_a_ping_prevents_no_backup(path: Path) -> None:
    text = f'{LEAST}\n[monitoring]\nping = {{ env = "PGSTOW_PING" }}'
    assert parse(path, text).monitoring.ping == ""
    assert parse(path, text, PGSTOW_PING="https://hc.example.com/x").monitoring.ping == "https://hc.example.com/x"
    assert "can't have a user" in str(problems(path, text, PGSTOW_PING="https://me:x@hc.example.com/x"))


def test_the_url_of_a_ping_must_not_be_in_the_file(path: Path) -> None:
    [problem] = problems(path, f'{LEAST}\n[monitoring]\nping = "https://hc.example.com/secret-uuid"')
    assert "monitoring.ping: is a secret, so it may not stand in this file" in problem
    assert "secret-uuid" not in problem


def test_a_level_is_auto_or_a_number(path: Path) -> None:
    for value, level in (("'auto'", "auto"), ("1", 1), ("19", 19)):
        [job] = jobs(path, f"{LEAST}level = {value}")
        assert job.request.level == level
    assert jobs(path, LEAST)[0].request.level == "auto"
    for value in ("0", "20", "3.0", "'3'", "'fast'", "true"):
        assert problems(path, f"{LEAST}level = {value}") == [
            "6: databases.shop.level: must be auto, or a whole number from 1 to 19."
        ]


def test_split_tables_is_auto_never_or_a_size(path: Path) -> None:
    for value, split_tables in (("'auto'", "auto"), ("'never'", "never"), ("'1MiB'", 1 << 20), ("4096", 4096)):
        [job] = jobs(path, f"{LEAST}split_tables = {value}")
        assert job.request.limits.split_tables == split_tables
    for value in ("0", "-1", "'0'", "'fast'"):
        assert problems(path, f"{LEAST}split_tables = {value}") == [
            f"6: databases.shop.split_tables: '{value.strip(chr(39))}' is not auto, never or a size such as 1GiB."
        ]
    for value in ("true", "1.5"):
        assert problems(path, f"{LEAST}split_tables = {value}") == [
            "6: databases.shop.split_tables: must be auto, never or a size such as 1GiB."
        ]


def test_the_test_restore_of_a_backup(path: Path) -> None:
    [job] = jobs(path, LEAST)
    assert job.proof == ProofRequest(assertions=[])
    shared = '[defaults]\nverify = "restore"\nscratch = {env = "SCRATCH"}\nserver_settings = true'
    own = 'checksums = true\nassertions = ["""\nSELECT count(*) > 0\n  FROM item"""]'
    [job] = jobs(path, f"{shared}\n{LEAST}{own}", SCRATCH="host=lab password=hunter2")
    assert job.verify is Level.RESTORE
    assert job.proof == ProofRequest(
        scratch=Conninfo.parse("host=lab password=hunter2"),
        checksums=True,
        assertions=[Assertion("SELECT count(*) > 0 FROM item", "SELECT count(*) > 0\n  FROM item")],
        server_settings=True,
    )
    [problem] = problems(path, f"{LEAST}scratch = 'host=lab password=hunter2'")
    assert problem == (
        "6: databases.shop.scratch: password may not stand in this file: keep it in libpq's password file (~/.pgpass) or service file; or take "
        'the whole connection string from the environment by {env = "NAME"}.'
    )


def test_a_duration_must_not_be_too_long(path: Path) -> None:
    [problem] = problems(path, f'{LEAST}\n[retention.default]\nkeep_within = "999999d"')
    assert problem.endswith("retention.default.keep_within: '999999d' is more than a hundred years.")


def test_a_password_file_must_not_contain_a_nul_character(path: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"pass\0word\n")
    text = f'{LEAST}\npassword_file = "{tmp_path}/password"'
    assert "contains a NUL character." in str(problems(path, text))


def test_an_empty_file_is_invalid(path: Path) -> None:
    assert problems(path, "") == ["1: destinations: is missing.", "1: databases: is missing."]


def test_invalid_toml_is_reported_with_its_line(path: Path) -> None:
    path.write_text("[defaults]\njobs = \n", "utf-8")
    with pytest.raises(ConfigInvalid, match=r"it is not TOML: Invalid value \(at line 2, column 8\)\."):
        ConfigFile(path)


def test_a_missing_file_is_an_error(path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"Cannot read .*: No such file"):
        ConfigFile(path)


SECRET = "hunter2"


class TestSecrets:
    @pytest.mark.parametrize(
        "conninfo",
        [f"host=db password={SECRET}", f"postgresql://backup:{SECRET}@db/shop", f"host=db sslpassword={SECRET}"],
    )
    def test_secrets_must_not_be_in_the_file(self, path: Path, conninfo: str) -> None:
        [problem] = problems(path, LEAST.replace("service=shop", conninfo))
        assert problem.startswith("5: databases.shop.conninfo: ")
        assert "may not stand in this file: keep it in libpq's password file" in problem
        assert SECRET not in problem

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("/mnt/backups", f"s3://key:{SECRET}@bucket/prefix"),
            ("service=shop", f"host = = {SECRET}"),
            ("[databases", f'[monitoring]\nping = "https://me:{SECRET}@hc.example.com/x"\n[databases'),
            ('"service=shop"', f'["{SECRET}"]'),
            ('"service=shop"', f'{{ env = "X", password = "{SECRET}" }}'),
        ],
    )
    def test_errors_repeat_no_secret(self, path: Path, old: str, new: str) -> None:
        [problem] = problems(path, LEAST.replace(old, new, 1))
        assert SECRET not in problem

    def test_secrets_come_from_the_environment(self, path: Path) -> None:
        text = LEAST.replace('"service=shop"', '{ env = "SHOP" }').replace('"/mnt/backups"', '{ env = "STORE" }')
        config = parse(path, text, SHOP=f"host=db password={SECRET}", STORE="gs://bucket/prefix")
        assert config.databases["shop"].conninfo == f"host=db password={SECRET}"
        assert config.destinations["nas"].url == "gs://bucket/prefix"
        assert problems(path, text, STORE="x://y") == [
            "3: destinations.nas.url: x:// is no known store; use s3://bucket/prefix, gs://bucket/prefix or a path.",
            "5: databases.shop.conninfo: the environment has no SHOP.",
        ]

    def test_passwords_come_from_a_file(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "password").write_text(f"{SECRET}\n")
        [job] = jobs(path, f"{LEAST}password_file = '{tmp_path}/password'")
        assert job.request.source.parameters == {"service": "shop", "password": SECRET}
        assert SECRET not in repr(job)
        [problem] = problems(path, f"{LEAST}password_file = '{tmp_path}/none'")
        assert problem.endswith("/none can't be read: No such file or directory.")


def test_one_run_at_a_time(path: Path) -> None:
    path.write_text(LEAST)
    first, second = ConfigFile(path), ConfigFile(path)
    words = r"Another run with .*pgstow\.toml is not finished"
    with first.sole_run(), pytest.raises(BackupRunning, match=words), second.sole_run():
        pass
    with second.sole_run():
        pass


KEYS = st.sampled_from(["a", "b", "'c d'", '"e.f"'])
VALUES = st.sampled_from(["1", '"x # y"', "[\n  1,\n\n  2, # [t]\n]", '"""\na = 1\n[t]\n"""', "{ p = 1, q = [2] }"])


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "# a = 1", "\n\n"]), KEYS, VALUES), max_size=4, unique_by=lambda one: one[1]
    )
)
def test_the_line_of_each_key_is_found(
    tmp_path_factory: pytest.TempPathFactory, statements: list[tuple[str, str, str]]
) -> None:
    text, expected = "[t]\n", {}
    for before, key, value in statements:
        text += f"{before}\n"
        expected[next(iter(tomllib.loads(f"{key} = 1")))] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    path = tmp_path_factory.getbasetemp() / "lines.toml"
    path.write_text(text, "utf-8")
    file = ConfigFile(path)
    for key, line in expected.items():
        for deeper in itertools.chain([()], [("p",), ("nothing", 0), (0,)]):
            assert file.line_of(("t", key, *deeper)) == line
    assert file.line_of(("t", "nothing")) == 1


def test_only_newlines_make_lines(path: Path) -> None:
    text = "[destinations.nas]\r\nurl = '/a\u2028b'\r\nurls = ''\r\n[databases.a]\r\nconninfo = ''"
    assert problems(path, text) == ["3: destinations.nas.urls: there is no such key; did you mean url?"]


WORDS = [
    "defaults",
    "destinations",
    "databases",
    "retention",
    "monitoring",
    "a",
    "url",
    "env",
    "conninfo",
    "jobs",
    "ping",
]
ANYTHING = st.recursive(
    st.integers() | st.booleans() | st.floats() | st.sampled_from([*WORDS, "", "/a", "s3://a/b", "10MiB", "x=y=z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(st.sampled_from(WORDS), ANYTHING, max_size=5))
def test_any_content_is_valid_or_gets_sentences(content: dict[str, Any]) -> None:
    file = ConfigFile(Path("/dev/null"))
    file.content = content
    with suppress(ConfigInvalid):
        make_jobs(file, file.parse({"a": "/b"}), (), {})
