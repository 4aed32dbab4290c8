"""A proof runs the code in a backup, such as functions. These tests show what a hostile backup's code can read and do."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.pgstow import processes_naming, run_pgstow
from support.postgres_fixtures import Database

from pipeline.postgres.os_user import own_user

SECRETS = {"AWS_SECRET_ACCESS_KEY": "secret-of-s3", "PGPASSWORD": "secret-of-a-server"}
STRAY = str(31_536_000 + os.getpid())
"""The number of seconds for which the attack's program sleeps. The test looks for the program by this number."""

# An index needs an immutable function, and an immutable function may not run COPY. But it may call a function that does.
ATTACK = """
CREATE ROLE mallory;
CREATE FUNCTION public.tell(what text) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    IF pg_catalog.current_database() LIKE 'pgstow%' THEN
        EXECUTE pg_catalog.format('COPY (SELECT 1) TO PROGRAM %L', pg_catalog.replace(
            'cat >/dev/null; cd {place}; env >it; id -u >it.user; cat /proc/self/net/dev >it.networks; '
            || 'setsid sleep {stray} >/dev/null 2>&1 &', 'it', what));
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END $f$;
CREATE FUNCTION public.positive(what text, i integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $f$
BEGIN PERFORM public.tell(what); RETURN i > 0; END $f$;
ALTER FUNCTION public.tell OWNER TO mallory; ALTER FUNCTION public.positive OWNER TO mallory;
CREATE TABLE public.t (i integer{check}); ALTER TABLE public.t OWNER TO mallory;
INSERT INTO public.t VALUES (1);
CREATE INDEX ON public.t (public.positive('index', i));
CREATE MATERIALIZED VIEW public.m AS SELECT public.positive('view', i) FROM public.t; ALTER MATERIALIZED VIEW public.m OWNER TO mallory;
"""
CHECK = " CHECK (public.positive('check', i))"


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a folder in which every user may create files."""
    with TemporaryDirectory(prefix="told-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def attack(database: Database) -> Iterator[Database]:
    """Yield the database for the hostile backup. Afterwards drop the role that the attack made."""
    yield database
    database.execute("DROP OWNED BY mallory; DROP ROLE mallory")


@pytest.mark.parametrize("check", ["", CHECK], ids=["as the owner", "as the superuser"])
def test_what_it_reaches(attack: Database, place: Path, tmp_path: Path, spool_dir: Path, check: str) -> None:
    """A function that runs as its table's owner can't start programs. A CHECK's function runs as a superuser: it can, but finds no secrets."""
    attack.execute(ATTACK.replace("{place}", str(place)).replace("{stray}", STRAY).replace("{check}", check))
    common = ("--spool-dir", spool_dir, "-q")
    made = run_pgstow("backup", attack.conninfo, "--to", tmp_path, *common)
    assert made.exit_code == 0, made
    proven = run_pgstow("verify", "--from", tmp_path, "--level", "restore", *common, env=SECRETS)
    assert proven.exit_code == 0, proven

    assert {file.name.split(".")[0] for file in place.iterdir()} == ({"check"} if check else set())
    assert not processes_naming(STRAY)
    if not check:
        return
    assert not any(secret in (place / "check").read_text() for secret in SECRETS.values())
    if os.geteuid() == 0:
        user = int((place / "check.user").read_text())
        assert user > 0
        assert user not in {one.pw_uid for one in pwd.getpwall()}
        networks = (place / "check.networks").read_text().splitlines()[2:]
        if "unshare" in own_user().confined():
            assert [line.split(":")[0].strip() for line in networks] == ["lo"]
