"""``pgstow run``: backups of all databases that a configuration file lists."""

import fcntl
import json
import math
import re
import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.faulty_backups import FaultyStore
from support.faulty_http import Fault
from support.messages import JsonService, serving
from support.object_stores import StoreBucket
from support.pgstow import Result, assert_one_sentence, committed_backups, finish, run_pgstow, start_pgstow, wait_until
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.postgres.throwaway import ThrowawayCluster

BAD_INPUT, SERVER, STORE, DAMAGED, CHECK, BUSY, REFUSED = 2, 3, 6, 7, 10, 11, 12
NOBODY_LISTENS = "host=127.0.0.1 port=1 dbname=x"


class Night:
    """A configuration file, and runs with it."""

    def __init__(self, folder: Path, spool_dir: Path) -> None:
        self.folder = folder
        self.path = folder / "pgstow.toml"
        self.textfile = folder / "pgstow.prom"
        self._defaults = f'spool_dir = "{spool_dir}"\njobs = 1\nobject_size = "64KiB"\n'

    def write(
        self,
        databases: Mapping[str, str],
        destinations: Mapping[str, object],
        *,
        defaults: str = "",
        more: str = "",
        monitoring: str = "",
    ) -> None:
        """Write the file. The mappings have each database's conninfo and each destination's URL or folder by name. Folders are created."""
        for destination in destinations.values():
            if isinstance(destination, Path):
                destination.mkdir(parents=True, exist_ok=True)
        lines = [f"[defaults]\n{self._defaults}{defaults}"]
        lines += [f'[destinations.{name}]\nurl = "{url}"\ngive_up_after = 0.1' for name, url in destinations.items()]
        lines += [f'[databases.{name}]\nconninfo = "{conninfo}"' for name, conninfo in databases.items()]
        lines += [more, f'[monitoring]\ntextfile = "{self.textfile}"\n{monitoring}']
        self.path.write_text("\n".join(lines), "utf-8")

    def run(self, *arguments: object, env: Mapping[str, str] | None = None) -> Result:
        return run_pgstow("run", "--config", self.path, *arguments, env=env)

    def outcomes(self, result: Result) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the backups in the output of a run with ``--json``, by database and destination."""
        document = json.loads(result.stdout)
        assert document["exit_code"] == result.exit_code
        assert document["good"] == (result.exit_code == 0)
        return {(one["database"], one["destination"]): one for one in document["backups"]}

    def metric(self, name: str) -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(self.textfile.read_text("utf-8"))
        samples = [sample for family in families for sample in family.samples if sample.name == f"pgstow_{name}"]
        return {(sample.labels["database"], sample.labels["destination"]): sample.value for sample in samples}


@pytest.fixture
def night(tmp_path: Path, spool_dir: Path) -> Night:
    return Night(tmp_path, spool_dir)


@pytest.fixture
def messages() -> Iterator[JsonService]:
    with serving(service := JsonService()):
        yield service


def test_several_databases_to_several_destinations(
    night: Night, sample_database: Database, database: Database, s3_bucket: StoreBucket, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE t AS SELECT 1 AS id")
    night.write(
        {"shop": sample_database.conninfo, "small": database.conninfo},
        {"offsite": s3_bucket.url, "nas": tmp_path / "nas"},
        defaults='cluster = "prod"\nverify = "archive"\n',
        more='exclude_table_data = ["no.such"]\ndestinations = ["nas"]\nverify = "none"',
    )
    result = night.run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    outcomes = night.outcomes(result)
    assert list(outcomes) == [("shop", "offsite"), ("shop", "nas"), ("small", "nas")]
    assert {pair: one["verified"] for pair, one in outcomes.items()} == {
        ("shop", "offsite"): "archive",
        ("shop", "nas"): "archive",
        ("small", "nas"): None,
    }
    assert outcomes["small", "nas"]["rows"] == 1
    assert committed_backups(s3_bucket.url) == [outcomes["shop", "offsite"]["backup_id"]]
    assert sorted(committed_backups(tmp_path / "nas")) == sorted(
        [outcomes["shop", "nas"]["backup_id"], outcomes["small", "nas"]["backup_id"]]
    )
    listed = json.loads(run_pgstow("list", "--from", tmp_path / "nas", "--json").stdout)
    proven = {one["backup_id"]: one["proven"] and one["proven"]["level"] for one in listed}
    assert proven == {
        outcome["backup_id"]: outcome["verified"] for (_, store), outcome in outcomes.items() if store == "nas"
    }
    assert night.metric("last_attempt_success") == dict.fromkeys(outcomes, 1)
    assert night.metric("rows") == {pair: one["rows"] for pair, one in outcomes.items()}


def test_one_that_fails_keeps_no_other_from_its_backup(
    night: Night,
    sample_database: Database,
    s3: FaultyStore,
    messages: JsonService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night.write(
        {"gone": NOBODY_LISTENS, "shop": sample_database.conninfo, "held": sample_database.conninfo},
        {"offsite": s3.url, "nas": tmp_path / "nas"},
        more='before = ["sh", "-c", "echo a standby; exit 1"]',
        monitoring='notify = [{ env = "NOTIFY" }]',
    )
    monkeypatch.setenv("NOTIFY", messages.url)
    s3.proxy.fail(with_=Fault.FORBIDDEN, method="PUT", skip=3, times=math.inf)
    result = night.run("--quiet")
    assert result.exit_code == SERVER
    assert len(committed_backups(tmp_path / "nas")) == 1
    assert committed_backups(s3.bucket.url) == []
    assert [line.partition(":")[2].partition(":")[0].strip() for line in result.stderr_lines if " at " in line] == [
        "gone at offsite",
        "gone at nas",
        "shop at offsite",
        "held at offsite",
        "held at nas",
    ]
    assert "The hook sh failed (exit code 1): a standby" in result.stderr
    assert result.stdout.count("FAILED") == 5
    assert night.metric("last_attempt_success") == {
        ("gone", "nas"): 0,
        ("gone", "offsite"): 0,
        ("shop", "nas"): 1,
        ("shop", "offsite"): 0,
        ("held", "nas"): 0,
        ("held", "offsite"): 0,
    }
    before = night.metric("last_success_timestamp_seconds")
    assert [pair for pair, moment in before.items() if moment] == [("shop", "nas")]

    [failure] = messages.messages
    assert failure["title"].endswith(": 5 backups FAILED")
    assert "shop at offsite: " in failure["message"]

    s3.proxy.heal()
    assert night.run("held", "--quiet").exit_code == REFUSED
    result = night.run("shop", "--json")
    assert (result.exit_code, list(night.outcomes(result))) == (0, [("shop", "offsite"), ("shop", "nas")])
    assert messages.messages[2]["message"] == "Good again: shop at offsite."
    assert night.metric("last_attempt_success")["gone", "nas"] == 0
    assert night.metric("last_success_timestamp_seconds")["shop", "nas"] > before["shop", "nas"]


def test_a_destination_that_cannot_be_opened(night: Night, sample_database: Database, tmp_path: Path) -> None:
    stores = {"offsite": "s3://bucket/prefix?profile=no-such-profile", "nas": tmp_path / "nas"}
    night.write({"shop": sample_database.conninfo}, stores)
    assert_one_sentence(night.run("--json"), BAD_INPUT, r"shop at offsite: .*no-such-profile")
    for log_format in ("text", "json"):
        debugged = run_pgstow("--debug", "run", "--config", night.path, "--json", "--log-format", log_format)
        assert "Traceback" in debugged.stderr
        assert "ProfileNotFound" in debugged.stderr
    assert len(committed_backups(tmp_path / "nas")) == 3


def test_a_backup_that_is_not_good_is_a_failure(
    night: Night, sample_database: Database, s3: FaultyStore, tmp_path: Path
) -> None:
    s3.proxy.fail(with_=Fault.FLIP_RECEIVED, method="GET", path="data/", times=math.inf)
    night.write({"shop": sample_database.conninfo}, {"offsite": s3.url, "nas": tmp_path / "nas"})
    result = night.run("--json", "--verify", "bytes")
    outcomes = night.outcomes(result)
    assert_one_sentence(result, DAMAGED, r"shop at offsite: The backup \S+ of \S+ is not good \(\d+ problems\): ")
    assert outcomes["shop", "offsite"]["backup_id"] == outcomes["shop", "nas"]["backup_id"]
    assert (outcomes["shop", "offsite"]["verified"], outcomes["shop", "nas"]["verified"]) == (None, "bytes")
    last = night.metric("last_success_timestamp_seconds")
    assert [pair for pair, moment in last.items() if moment] == [("shop", "nas")]


def test_a_backup_that_cannot_all_be_read_is_not_proven(
    night: Night, sample_database: Database, s3: FaultyStore, tmp_path: Path
) -> None:
    s3.proxy.fail(with_=Fault.INTERNAL_ERROR, method="GET", path="data/.*pack-00000", times=math.inf)
    night.write({"shop": sample_database.conninfo}, {"offsite": s3.url})
    result = night.run("--json", "--verify", "bytes")
    assert_one_sentence(
        result, STORE, r"The backup \S+ of \S+ is not proven: an object could not be read. .*pack-00000"
    )
    assert night.outcomes(result)["shop", "offsite"]["verified"] is None
    assert night.metric("last_attempt_success")["shop", "offsite"] == 0
    assert night.metric("last_success_timestamp_seconds")["shop", "offsite"] == 0


def test_a_manifest_that_is_another_than_was_put(night: Night, sample_database: Database, s3: FaultyStore) -> None:
    s3.proxy.fail(with_=Fault.FLIP_RECEIVED, method="GET", path="manifests/", times=math.inf)
    night.write({"shop": sample_database.conninfo}, {"offsite": s3.url}, defaults='verify = "objects"\n')
    assert_one_sentence(night.run("--json"), DAMAGED, "is not the manifest that was put there")


def test_credentials_that_may_not_attest_cause_only_a_notice(night: Night, database: Database, s3: FaultyStore) -> None:
    s3.proxy.fail(with_=Fault.FORBIDDEN, method="PUT", path="attestations/", times=math.inf)
    night.write({"small": database.conninfo}, {"offsite": s3.url}, defaults='verify = "objects"\n')
    assert_one_sentence(
        night.run("--json"), 0, "The attestation of this result could not be put into the store.*attestations/"
    )


@pytest.mark.parametrize("whole_server", [False, True])
def test_a_destination_whose_lock_has_passed(
    night: Night, s3_locking_bucket: StoreBucket, tmp_path: Path, whole_server: bool
) -> None:
    passed = s3_locking_bucket.url + "&retain_until=2026-01-01"
    more = "all_databases = true" if whole_server else ""
    with ThrowawayCluster() as server:
        night.write({"small": server.conninfo()}, {"offsite": passed, "nas": tmp_path / "nas"}, more=more)
        result = night.run("--json")
    assert result.exit_code == BAD_INPUT, result
    outcomes = night.outcomes(result)
    assert {pair: one["good"] for pair, one in outcomes.items()} == {
        ("small", "offsite"): False,
        ("small", "nas"): True,
    }
    assert "which has passed" in outcomes["small", "offsite"]["problem"]


def test_what_nights_left_on_which_a_database_failed(night: Night, tmp_path: Path) -> None:
    with ThrowawayCluster() as server:
        admin = Database("postgres", server.conninfo())
        admin.execute("CREATE ROLE nightly LOGIN IN ROLE pg_read_all_data")
        admin.execute("CREATE DATABASE closed")
        admin.execute("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
        conninfo = f"{server.conninfo()} user=nightly"
        more = "all_databases = true\n[retention.default]\nkeep_last = 1"
        night.write({"server": conninfo}, {"nas": tmp_path / "nas"}, more=more)
        for _ in range(2):
            assert night.run().exit_code == 4
        orphans = committed_backups(tmp_path / "nas")
        admin.execute("GRANT CONNECT ON DATABASE closed TO nightly")
        [good] = night.outcomes(night.run("--json")).values()
        assert good["good"]
        left = set(orphans) & set(committed_backups(tmp_path / "nas"))
        admin.execute("REVOKE CONNECT ON DATABASE closed FROM nightly")
        [bad] = night.outcomes(night.run("--json")).values()
    assert bad["newest_before"] == good["snapshot_at"], (
        "the backups of single databases don't count as a backup of the server"
    )
    assert len(orphans) == 6
    assert len(left) == 3, "the newest backup of each database stays, since it is in no cluster backup"


@pytest.mark.parametrize(
    ("format_", "level", "names"),
    [("directory", "restore", {"%40cluster", "%40globals", "postgres"}), ("plain", "archive", {"%40cluster"})],
)
def test_a_whole_server(night: Night, tmp_path: Path, format_: str, level: str, names: set[str]) -> None:
    with ThrowawayCluster() as server:
        night.write(
            {"server": server.conninfo()},
            {"nas": tmp_path / "nas", "other": tmp_path / "other"},
            defaults=f'verify = "restore"\nformat = "{format_}"\n',
            more='all_databases = true\nexclude_databases = ["template*"]',
        )
        result = night.run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    outcomes = night.outcomes(result)
    assert {one["verified"] for one in outcomes.values()} == {level}
    assert {path.parent.name for path in (tmp_path / "other").rglob("manifests/**/*.json")} == names


def test_the_keys_of_a_test_restore(
    night: Night, database: Database, postgres: ThrowawayCluster, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE item AS SELECT 1 AS i")
    server = Database("postgres", postgres.conninfo())
    for assertion, exit_code in (("SELECT count(*) = 1 FROM item", 0), ("SELECT count(*) = 2 FROM item", DAMAGED)):
        night.write(
            {"small": database.conninfo},
            {"nas": tmp_path / "nas"},
            defaults=f'verify = "restore"\nscratch = "{server.conninfo}"\nchecksums = true\nserver_settings = true\n',
            more=f'assertions = ["{assertion}"]',
        )
        result = night.run("--json")
        assert result.exit_code == exit_code, result
    attested = [json.loads(path.read_text()) for path in (tmp_path / "nas" / "attestations").rglob("*.json")]
    proofs = sorted(attested, key=lambda proof: proof["finished_at"])
    assert [proof["good"] for proof in proofs] == [True, False]
    assert proofs[0]["restore"]["compared"] == 1
    assert proofs[0]["restore"]["assertions"] == ["SELECT count(*) = 1 FROM item"]
    assert server.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'pgstow%'") == []


def test_what_retention_does_not_keep_is_removed(
    night: Night, database: Database, sample_database: Database, tmp_path: Path
) -> None:
    more = 'tags = ["nightly"]\n[retention.default]\nkeep_last = 2\nonly_verified = "objects"'
    stores = {"nas": tmp_path / "nas", "other": tmp_path / "other"}
    night.write(
        {"small": database.conninfo, "shop": sample_database.conninfo},
        stores,
        defaults='verify = "objects"\n',
        more=more,
    )
    first = night.outcomes(night.run("--json"))
    second = night.outcomes(night.run("small", "--json"))
    # In one destination, damage a manifest that the retention would remove. The backup stays, and pgstow reports the manifest.
    [broken] = (tmp_path / "other").rglob(f"manifests/**/{first['small', 'other']['backup_id']}.json")
    broken.write_bytes(broken.read_bytes()[:-10])
    result = night.run("small", "--json")
    assert result.exit_code == DAMAGED, result
    told = r"small at other: 1 manifest in \S+ can't be read or believed: "
    assert re.search(told + str(broken.relative_to(tmp_path / "other")), result.stderr)
    outcomes = night.outcomes(result)
    assert {pair: one["removed"] for pair, one in outcomes.items()} == {("small", "nas"): 1, ("small", "other"): 0}
    assert outcomes["small", "nas"]["newest_before"] is None, "only failures have newest_before"
    assert outcomes["small", "other"]["newest_before"] == second["small", "other"]["snapshot_at"]
    kept = committed_backups(tmp_path / "nas")
    assert len(kept) == 3
    assert first["shop", "nas"]["backup_id"] in kept
    assert first["small", "nas"]["backup_id"] not in kept
    assert outcomes["small", "nas"]["backup_id"] in kept


def test_other_backups_of_the_same_database_are_let_be(night: Night, sample_database: Database, tmp_path: Path) -> None:
    """Each entry in the file has its own retention, even if several entries back up the same database."""
    script = f'[databases.script]\nconninfo = "{sample_database.conninfo}"\nformat = "plain"\nretention = "short"'
    part = f'[databases.part]\nconninfo = "{sample_database.conninfo}"\ntables = ["shop.product"]\nretention = "short"'
    more = f'retention = "long"\n{part}\n{script}\n[retention.long]\nkeep_last = 3\n[retention.short]\nkeep_last = 1'
    night.write({"shop": sample_database.conninfo}, {"nas": tmp_path / "nas"}, more=more)
    for _ in range(2):
        result = night.run("--json")
        assert result.exit_code == 0, result
    summary = night.run("script").stdout.splitlines()
    assert [line.split()[-2:] for line in summary] == [["VERIFIED", "PRUNED"], ["1", "good"]]
    removed = {database: one["removed"] for (database, _), one in night.outcomes(result).items()}
    assert removed == {"shop": 0, "part": 1, "script": 1}
    assert len(committed_backups(tmp_path / "nas")) == 4


def test_a_whole_server_s_backups_are_removed_with_their_members(night: Night, tmp_path: Path) -> None:
    with ThrowawayCluster() as server:
        night.write(
            {"server": server.conninfo()},
            {"nas": tmp_path / "nas"},
            defaults='verify = "objects"\nretention = "short"\n',
            more='all_databases = true\n[retention.short]\nkeep_last = 1\nonly_verified = "objects"',
        )
        night.run()
        before = committed_backups(tmp_path / "nas")
        result = night.run("--json")
    assert (result.exit_code, night.outcomes(result)["server", "nas"]["removed"]) == (0, len(before)), result
    after = committed_backups(tmp_path / "nas")
    assert len(after) == len(before) > 2
    assert not set(after) & set(before)


def test_a_locked_backup_stays_and_is_no_failure(
    night: Night, database: Database, s3_locking_bucket: StoreBucket
) -> None:
    night.write(
        {"small": database.conninfo},
        {"offsite": s3_locking_bucket.url + "&retain_days=30"},
        more="[retention.default]\nkeep_last = 1",
    )
    night.run()
    result = night.run("--json")
    [outcome] = night.outcomes(result).values()
    assert (result.exit_code, outcome["removed"]) == (0, 0), result
    until = datetime.fromisoformat(outcome["retained_until"])
    assert timedelta(days=29) < until - datetime.now(UTC) < timedelta(days=31)
    assert night.metric("retained_until_timestamp_seconds")["small", "offsite"] == until.timestamp()
    assert len(committed_backups(s3_locking_bucket.url)) == 2


def test_flags_override_the_environment_overrides_the_file(night: Night, database: Database, tmp_path: Path) -> None:
    night.write(
        {"small": database.conninfo},
        {"nas": tmp_path / "nas", "other": tmp_path / "other"},
        defaults='verify = "objects"\n',
    )

    def jobs_and_level(*arguments: object, **env: str) -> tuple[int, str]:
        result = night.run("--json", "--destination", "nas", *arguments, env=env)
        [one] = night.outcomes(result).values()
        [path] = (tmp_path / "nas").rglob(f"{one['backup_id']}.json")
        return json.loads(path.read_bytes())["dump"]["jobs"], one["verified"]

    assert jobs_and_level() == (1, "objects")
    assert jobs_and_level(PGSTOW_JOBS="2", PGSTOW_VERIFY="bytes") == (2, "bytes")
    assert jobs_and_level("--jobs", 3, "--verify", "none", PGSTOW_JOBS="2", PGSTOW_VERIFY="bytes") == (3, None)
    assert list((tmp_path / "other").iterdir()) == []
    assert set(night.metric("rows")) == {("small", "nas")}


def test_a_run_that_is_stopped_tells_what_it_has_done(
    night: Night, database: Database, sample_database: Database, stuck_s3: FaultyStore, tmp_path: Path
) -> None:
    destinations = {"nas": tmp_path / "nas", "offsite": stuck_s3.url}
    night.write(
        {"small": database.conninfo, "shop": sample_database.conninfo},
        destinations,
        more='destinations = ["offsite"]',
        monitoring=f"on_failure = {json.dumps(['sh', '-c', f'cat > {tmp_path}/told'])}",
    )
    night.path.write_text(
        night.path.read_text().replace("[databases.shop]", 'destinations = ["nas"]\n[databases.shop]')
    )
    with start_pgstow("run", "--config", night.path, "--log-format", "json") as process:
        wait_until(lambda: stuck_s3.proxy.count("PUT"), "the second backup is uploading")
        process.terminate()
        result = finish(process)
    assert result.exit_code == 128 + signal.SIGTERM
    last = json.loads(result.stderr_lines[-1])
    assert (last["event"], last["message"]) == (
        "stopped",
        "Stopped by SIGTERM; an unfinished backup is never committed; pgstow gc removes its objects.",
    )
    assert night.metric("last_attempt_success") == {("small", "nas"): 1, ("shop", "offsite"): 0}
    assert night.metric("last_success_timestamp_seconds")["shop", "offsite"] == 0
    told = json.loads((tmp_path / "told").read_text())
    assert (told["good"], told["exit_code"]) == (False, 128 + signal.SIGTERM)
    assert told["backups"][1]["problem"] == "The run stopped before this backup was complete."


def test_a_second_run_over_one_file(night: Night, database: Database, tmp_path: Path) -> None:
    night.write({"small": database.conninfo}, {"nas": tmp_path / "nas"})
    with night.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert_one_sentence(night.run("--json"), BUSY, r"Another run with \S+pgstow\.toml is not finished: wait")
    assert list((tmp_path / "nas").iterdir()) == []
    assert night.run("--spread", "1s").exit_code == 0


def test_logs_are_one_json_object_a_line(night: Night, database: Database, s3: FaultyStore, tmp_path: Path) -> None:
    s3.proxy.fail(with_=Fault.FORBIDDEN, method="PUT", times=math.inf)
    night.write({"small": database.conninfo}, {"offsite": s3.url, "nas": tmp_path / "nas"})
    result = night.run("--log-format", "json")
    assert result.exit_code == STORE
    lines = [json.loads(line) for line in result.stderr_lines]
    assert all({"time", "level", "event"} <= set(line) for line in lines)
    ended = {line["destination"]: line for line in lines if line["event"] == "ended"}
    assert {name: (line["database"], line["level"], line["good"]) for name, line in ended.items()} == {
        "offsite": ("small", "error", False),
        "nas": ("small", "info", True),
    }
    assert "AccessDenied" in ended["offsite"]["problem"]
    assert {"started", "notice"} <= {line["event"] for line in lines if line.get("database") == "small"}

    night.path.write_text("[databases]")
    result = night.run("--log-format", "json")
    assert result.exit_code == BAD_INPUT
    [line] = [json.loads(line) for line in result.stderr_lines]
    assert (line["level"], line["event"], line["kind"]) == ("error", "failed", "ConfigInvalid")


def test_hooks_are_told_and_make_nothing_fail(night: Night, database: Database, tmp_path: Path) -> None:
    hook = json.dumps(["sh", "-c", f"cat > '{tmp_path}/told'; exit 5"])
    monitoring = f'on_success = {hook}\nping = {{ env = "PING" }}'
    night.write({"small": database.conninfo}, {"nas": tmp_path / "nas"}, monitoring=monitoring)
    night.textfile = tmp_path / "none" / "x.prom"
    night.path.write_text(night.path.read_text().replace("pgstow.prom", "none/x.prom"))
    result = night.run("--json", env={"PING": "http://127.0.0.1:1/uuid"})
    assert result.exit_code == 0
    start, metrics, told, end = result.stderr_lines
    assert start == end
    assert start.startswith("pgstow: The ping to 127.0.0.1 failed: ")
    assert metrics.startswith("pgstow: Writing the metrics to ")
    assert told == "pgstow: The hook sh failed (exit code 5)."
    assert json.loads((tmp_path / "told").read_text()) == json.loads(result.stdout)


class TestConfigCheck:
    def test_without_connecting(self, night: Night, tmp_path: Path) -> None:
        night.write({"shop": NOBODY_LISTENS}, {"nas": tmp_path / "nas"})
        result = run_pgstow("config", "check", "--config", night.path)
        assert (result.exit_code, result.stdout) == (0, f"{night.path} is valid. It lists shop.\n")

    def test_all_that_is_wrong(self, night: Night) -> None:
        night.path.write_text("[defaults]\njob = 1\n[databases.a]\n[databases.b]\n")
        result = run_pgstow("config", "check", env={"PGSTOW_CONFIG": str(night.path)})
        assert result.exit_code == BAD_INPUT
        assert result.stderr_lines == [
            f"pgstow: {night.path}:1: destinations: is missing.",
            f"pgstow: {night.path}:2: defaults.job: there is no such key; did you mean jobs?",
            f"pgstow: {night.path}:3: databases.a.conninfo: is missing.",
            f"pgstow: {night.path}:4: databases.b.conninfo: is missing.",
        ]

    def test_connecting(self, night: Night, make_database: DatabaseMaker, tmp_path: Path) -> None:
        good = make_database()
        night.write({"good": good.conninfo, "gone": NOBODY_LISTENS}, {"nas": tmp_path / "nas", "no": "/proc"})
        result = run_pgstow("config", "check", "--config", night.path, "--connect", "--quiet")
        assert result.exit_code == CHECK
        parts = dict(part.split("\n", 1) for part in result.stdout.split("\n\n")[1:])
        assert list(parts) == ["good to nas", "good to no", "gone to nas", "gone to no"]
        assert "Ready to back up" in parts["good to nas"]
        assert all("Not ready" in parts[name] for name in list(parts)[1:])

    def test_where_the_file_is_looked_for(self, night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        night.write({"shop": NOBODY_LISTENS}, {"nas": tmp_path / "nas"})
        assert run_pgstow("config", "check").stdout == "pgstow.toml is valid. It lists shop.\n"
        monkeypatch.chdir(Path("/"))
        if not Path("/etc/pgstow").exists():
            assert_one_sentence(run_pgstow("config", "check"), BAD_INPUT, "There is no pgstow.toml and no /etc/pgstow")
