"""These tests follow docs/recovery.md to the letter, with only the programs that the page names."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.object_stores import StoreBucket
from support.pgstow import PATIENCE, run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker
from support.stored_sample import OBJECT_SIZE, StoredSample

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster

DOCUMENT = Path(__file__).parents[2] / "docs/recovery.md"
PROGRAMS = [
    "bash",
    "basename",
    "cat",
    "cp",
    "cut",
    "find",
    "ls",
    "grep",
    "mkdir",
    "od",
    "sed",
    "sha256sum",
    "sort",
    "tar",
    "test",
    "tr",
    "xargs",
    "zstd",
]


def commands(*kinds: str) -> str:
    """Return the page's blocks of commands of these kinds, in the page's order."""
    blocks = re.findall(r"^```sh ?(\S*)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    chosen = [block for kind, block in blocks if kind in kinds]
    assert chosen
    return "\n".join(chosen)


def step(heading: str) -> str:
    """Return the commands under a heading."""
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


@pytest.fixture
def toolbox(tmp_path: Path, postgres: ThrowawayCluster) -> Path:
    """Return a folder with only the programs that the page names."""
    folder = tmp_path / "toolbox"
    folder.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found, f"{name} is not installed"
        (folder / name).symlink_to(found)
    (folder / "pg_restore").symlink_to(postgres.bin_dir / "pg_restore")
    return folder


def follow(script: str, toolbox: Path, variables: Mapping[str, str]) -> str:
    """Run commands as a person would paste them, but stop at the first failure. Return what they print."""
    work = toolbox.with_name("work")
    work.mkdir()
    environment = {"PATH": str(toolbox), "LC_ALL": "C.UTF-8", "HOME": str(work), **variables}
    done = subprocess.run(
        [toolbox / "bash", "-euo", "pipefail", "-c", script],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stderr == ""
    return done.stdout


def backup_of(stored: StoredSample) -> str:
    """Return the value of the page's variable BACKUP."""
    [path] = (stored.folder / "manifests").rglob("*.json")
    return str(path.relative_to(stored.folder / "manifests").with_suffix(""))


def test_from_a_directory(stored_sample: StoredSample, empty_target: Database, toolbox: Path) -> None:
    variables = {
        "STORE": str(stored_sample.folder),
        "BACKUP": backup_of(stored_sample),
        "TARGET": empty_target.conninfo,
    }
    printed = follow(commands("", "local"), toolbox, variables)

    assert printed.split() == [f"{stored_sample.folder}/manifests/{variables['BACKUP']}.json"]
    assert compare.contents(empty_target.conninfo) == compare.contents(stored_sample.source)
    assert compare.definitions(empty_target.conninfo) == compare.definitions(stored_sample.source)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """The file with a new identity of age's."""
    subprocess.run(["age-keygen", "-o", tmp_path / "identity"], check=True, capture_output=True)
    return tmp_path / "identity"


@pytest.fixture
def sealed_sample(stored_sample: StoredSample, identity: Path, toolbox: Path, spool_dir: Path) -> StoredSample:
    """The sample's database in a sealed backup, among whose key objects is an attacker's; the toolbox has age."""
    for name in ("age", "age-keygen"):
        found = shutil.which(name)
        assert found, f"{name} is not installed"
        (toolbox / name).symlink_to(found)
    done = subprocess.run(["age-keygen", "-y", identity], check=True, capture_output=True, text=True)
    recipient = done.stdout.strip()
    store = toolbox.with_name("sealed")
    made = run_pgstow(
        "backup", stored_sample.source, "--to", store, "--object-size", OBJECT_SIZE, "--recipient", recipient, "-q",
        "--spool-dir", spool_dir, "--cluster", "prod",
    )  # fmt: skip
    assert made.exit_code == 0, made
    sealed = StoredSample(store, stored_sample.source)
    forged = subprocess.run(["age-keygen"], check=True, capture_output=True).stdout
    decoy = store / "keys" / backup_of(sealed) / "20000101T000000.000000Z.age"
    subprocess.run(["age", "--encrypt", "--recipient", recipient, "--output", decoy], input=forged, check=True)
    return sealed


def test_a_sealed_backup(sealed_sample: StoredSample, identity: Path, empty_target: Database, toolbox: Path) -> None:
    variables = {
        "STORE": str(sealed_sample.folder),
        "BACKUP": backup_of(sealed_sample),
        "TARGET": empty_target.conninfo,
        "IDENTITY": str(identity),
    }
    follow(commands("", "local", "sealed-key", "sealed"), toolbox, variables)
    assert compare.contents(empty_target.conninfo) == compare.contents(sealed_sample.source)


def test_just_one_table_of_a_sealed_backup(
    sealed_sample: StoredSample, identity: Path, empty_target: Database, toolbox: Path
) -> None:
    follow_one_table(sealed_sample, empty_target, toolbox, "telemetry", "reading", "table-schema", identity=identity)
    contents = compare.contents(empty_target.conninfo)
    assert contents["telemetry.reading"] == compare.contents(sealed_sample.source)["telemetry.reading"]


@pytest.mark.parametrize("format_", ["custom", "tar", "plain"])
def test_a_single_file(
    sample_database: Database,
    empty_target: Database,
    toolbox: Path,
    tmp_path: Path,
    spool_dir: Path,
    postgres: ThrowawayCluster,
    format_: str,
) -> None:
    store = tmp_path / "store"
    where = ("--to", store, "--spool-dir", spool_dir, "--object-size", OBJECT_SIZE, "--json")
    made = run_pgstow("backup", sample_database.conninfo, "--format", format_, *where)
    (toolbox / "psql").symlink_to(postgres.bin_dir / "psql")
    variables = {
        "STORE": str(store),
        "BACKUP": f"localhost/{sample_database.name}/{json.loads(made.stdout)['backup_id']}",
        "TARGET": empty_target.conninfo,
    }
    steps = [commands("local"), step("3. Check it"), step("4. Put the archive together"), commands("script", format_)]
    follow("\n".join(steps), toolbox, variables)
    assert compare.contents(empty_target.conninfo) == compare.contents(sample_database.conninfo)
    assert compare.definitions(empty_target.conninfo) == compare.definitions(sample_database.conninfo)


def test_a_script_that_is_refused_is_a_failure_of_psql(
    empty_target: Database, postgres: ThrowawayCluster, tmp_path: Path
) -> None:
    """The exit code must be psql's, since the exit code of a pipe is its last command's."""
    (tmp_path / "script.sql").write_text("SELECT 1;\n\\unrestrict `touch ran`\n")
    for errors in ("on", "off"):
        run = f'{commands("script")}\nrestricted script.sql {errors} | "$PSQL" -X -d "$TARGET"'
        env = {**os.environ, "TARGET": empty_target.conninfo, "PSQL": str(postgres.bin_dir / "psql")}
        done = subprocess.run(["bash", "-c", run], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 3, done
        assert "the script is refused" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_with_jq_to_look_closer(stored_sample: StoredSample, empty_target: Database, toolbox: Path) -> None:
    variables = {
        "STORE": str(stored_sample.folder),
        "BACKUP": backup_of(stored_sample),
        "TARGET": empty_target.conninfo,
    }
    add_jq(toolbox)
    printed = follow(commands("", "local", "jq"), toolbox, variables)

    rows = {file.relation: file.rows for file in stored_sample.manifest.files if file.kind == "table"}
    assert f"{rows['product']}\tshop.product" in printed.splitlines()


def test_from_s3(stored_sample: StoredSample, s3_bucket: StoreBucket, empty_target: Database, toolbox: Path) -> None:
    aws = Path(sys.executable).with_name("aws")
    if not aws.exists():
        pytest.skip("the aws command is in the extra bench")
    (toolbox / "aws").symlink_to(aws)
    for path in stored_sample.folder.rglob("*"):
        key = path.relative_to(stored_sample.folder).as_posix()
        if path.is_file() and not key.startswith("."):
            s3_bucket.client.put_object(
                Bucket=s3_bucket.bucket, Key=f"{s3_bucket.prefix}/{key}", Body=path.read_bytes()
            )
    variables = {
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": s3_bucket.endpoint,
        "STORE": f"s3://{s3_bucket.bucket}/{s3_bucket.prefix}",
        "BACKUP": backup_of(stored_sample),
        "TARGET": empty_target.conninfo,
    }
    printed = follow(commands("", "s3"), toolbox, variables)

    assert f"{s3_bucket.prefix}/manifests/{variables['BACKUP']}.json" in printed
    assert compare.contents(empty_target.conninfo) == compare.contents(stored_sample.source)


def test_roles_and_tablespaces(postgres: ThrowawayCluster, tmp_path: Path, toolbox: Path, spool_dir: Path) -> None:
    server = Database("postgres", postgres.conninfo())
    server.execute("CREATE ROLE lost LOGIN CONNECTION LIMIT 5")
    store = tmp_path / "store"
    made = run_pgstow(
        "backup", postgres.conninfo(), "--globals-only", "--to", store, "--spool-dir", spool_dir, "--json"
    )
    server.execute("DROP ROLE lost")
    (toolbox / "psql").symlink_to(postgres.bin_dir / "psql")
    steps = [commands("local"), step("3. Check it"), step("4. Put the archive together")]
    variables = {
        "STORE": str(store),
        "BACKUP": f"localhost/%40globals/{json.loads(made.stdout)['backup_id']}",
        "TARGET": postgres.conninfo(),
    }
    try:
        follow("\n".join([*steps, f"{{ {commands('script', 'globals')} }} 2> ../refused"]), toolbox, variables)
        assert server.fetch("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'lost'") == [(5,)]
    finally:
        server.execute("DROP ROLE IF EXISTS lost")


@pytest.mark.parametrize("table", ["shop.order", "shop.review", "shop.customer"])
def test_just_one_table(
    stored_sample: StoredSample, sample_database: Database, make_database: DatabaseMaker, toolbox: Path, table: str
) -> None:
    """A table is dropped with all that belongs to it. The page's commands then restore all that pgstow restores."""
    name = table.removeprefix("shop.")
    sample_database.execute(f'DROP TABLE shop."{name}" CASCADE')
    expected = make_database(template=sample_database.name)
    restored = run_pgstow("restore", "--from", stored_sample.folder, "--into", expected.conninfo, "-t", table, "-q")
    assert restored.exit_code == 0, restored

    follow_one_table(stored_sample, sample_database, toolbox, "shop", name)

    assert compare.contents(sample_database.conninfo) == compare.contents(expected.conninfo)
    assert compare.definitions(sample_database.conninfo) == compare.definitions(expected.conninfo)


def test_just_one_table_and_its_schema(
    stored_sample: StoredSample, empty_target: Database, toolbox: Path, make_database: DatabaseMaker
) -> None:
    expected = make_database()
    table = ("-t", "telemetry.reading")
    restored = run_pgstow("restore", "--from", stored_sample.folder, "--into", expected.conninfo, *table, "-q")
    assert restored.exit_code == 0, restored

    follow_one_table(stored_sample, empty_target, toolbox, "telemetry", "reading", "table-schema")

    contents = compare.contents(empty_target.conninfo)
    assert contents == compare.contents(expected.conninfo)
    assert contents["telemetry.reading"] == compare.contents(stored_sample.source)["telemetry.reading"]
    assert compare.definitions(empty_target.conninfo) == compare.definitions(expected.conninfo)


def follow_one_table(
    stored: StoredSample,
    target: Database,
    toolbox: Path,
    schema: str,
    table: str,
    *more: str,
    identity: Path | None = None,
) -> None:
    add_jq(toolbox)
    for program in ("awk", "rm"):
        found = shutil.which(program)
        assert found
        (toolbox / program).symlink_to(found)
    put_together = step("4. Put the archive together")
    key, opened = (commands("sealed-key"), commands("sealed")) if identity else ("", "")
    # A person who opens an object again answers that age may overwrite its content.
    again = f"rm -f objects/*.zst\n{opened}" if identity else ""
    first = [commands("table"), key, opened, put_together]
    steps = [*first, commands("table-list"), commands("table-data"), again, put_together]
    variables = {
        "STORE": str(stored.folder),
        "BACKUP": backup_of(stored),
        "TARGET": target.conninfo,
        "SCHEMA": schema,
        "TABLE": table,
        "IDENTITY": str(identity),
    }
    follow("\n".join([*steps, *map(commands, more), commands("table-restore")]), toolbox, variables)


def test_damage_stops_it_before_anything_is_restored(
    stored_sample: StoredSample, empty_target: Database, toolbox: Path
) -> None:
    [hurt, *_] = stored_sample.objects_of("telemetry.reading")
    path = stored_sample.path(hurt)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    variables = {
        "STORE": str(stored_sample.folder),
        "BACKUP": backup_of(stored_sample),
        "TARGET": empty_target.conninfo,
    }
    with pytest.raises(AssertionError, match=f"{path.name}: FAILED"):
        follow(commands("", "local"), toolbox, variables)
    assert list(compare.contents(empty_target.conninfo)) == ["large objects"]


def add_jq(toolbox: Path) -> None:
    jq = shutil.which("jq")
    if jq is None:
        pytest.skip("jq is optional, and is not installed")
    (toolbox / "jq").symlink_to(jq)
