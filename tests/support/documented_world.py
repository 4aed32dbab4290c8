"""The servers, the stores and the home folder that pages of documentation speak of."""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from support.pgstow import PGSTOW
from support.ports import free_port
from support.tls import Authority

from demo import sample
from pipeline.postgres.throwaway import ThrowawayCluster

HOST = "db.example.com"
BUCKET = "my-backups"
PREFIX = "postgres"
BACKUP_ID = "20261123T020000Z-7f3a9c"
"""The ID of a backup in all pages. The newest backup of the database shop takes its place."""
TIME = "2026-11-23T12:00"
"""A time in all pages, after the newest backup. A time of today takes its place."""
OTHER_S3 = r"https://(minio\.example\.com:9000|ceph\.example\.com|ACCOUNT\.r2\.cloudflarestorage\.com)"
"""Stores with S3's API. The tests' S3 server behind TLS takes their place."""
PRIVATE_CA = "/etc/ssl/private-ca.pem"
_SCALE = 0.02

_FILL = """
INSERT INTO shop."order" VALUES (1000000, now(), 1, 'placed');
INSERT INTO shop.order_item SELECT 1000000, now(), 1, min(sku), 1 FROM shop.product;
CREATE ROLE backup LOGIN BYPASSRLS;
GRANT pg_read_all_data TO backup;
CREATE ROLE prover LOGIN SUPERUSER;
DO $$ DECLARE id oid; BEGIN
    FOR id IN SELECT oid FROM pg_largeobject_metadata LOOP EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO backup', id); END LOOP;
END $$;
"""
_SERVICES = """\
[shop]
host={host}
user=postgres
dbname=shop
[admin]
host={host}
user=postgres
dbname=shop
[new]
host={host}
port={new_port}
user=postgres
"""


@dataclass(frozen=True)
class Address:
    """Where the servers of a page listen, so that no other server of this machine is there."""

    host: str
    port: int
    new_port: int

    @classmethod
    def free(cls) -> "Address":
        """Return an address of this machine with PostgreSQL's own port, or with another port if something listens on all addresses."""
        host = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        try:
            with socket.create_server((host, 5432)):
                return cls(host, 5432, free_port())
        except OSError:
            return cls(host, free_port(), free_port())


@contextmanager
def servers(address: Address, authority: Authority, *, new: bool) -> Iterator[None]:
    """Run the server db.example.com with its databases and roles. With ``new``, also run an empty server."""
    with ExitStack() as stack:
        main = stack.enter_context(_server(address.host, address.port))
        _speak_tls(main, authority)
        for name in ("shop", "crm"):
            _execute(main.conninfo(), f"CREATE DATABASE {name}")
        sample.fill(main.conninfo("shop"), scale=_SCALE)
        _execute(main.conninfo("shop"), _FILL)
        _execute(main.conninfo("crm"), "CREATE TABLE contact AS SELECT id FROM generate_series(1, 100) AS id")
        if new:
            stack.enter_context(_server(address.host, address.new_port))
        yield


@contextmanager
def _server(host: str, port: int) -> Iterator[ThrowawayCluster]:
    with ThrowawayCluster(port=port, settings={"listen_addresses": host}) as cluster:
        with closing(psycopg.connect(cluster.conninfo(), autocommit=True)) as connection:
            [[rules]] = connection.execute("SELECT current_setting('hba_file')").fetchall()
            with Path(rules).open("a") as file:
                file.write(f"host all all {host}/32 trust\n")
            connection.execute("SELECT pg_reload_conf()")
        yield cluster


def _speak_tls(cluster: ThrowawayCluster, authority: Authority) -> None:
    folder = cluster.make_folder()
    owner = folder.stat()
    pem = folder / "server.pem"
    shutil.copyfile(authority.certify(HOST), pem)
    pem.chmod(0o600)
    os.chown(pem, owner.st_uid, owner.st_gid)
    for name, value in {"ssl_cert_file": pem, "ssl_key_file": pem, "ssl": "on"}.items():
        _execute(cluster.conninfo(), f"ALTER SYSTEM SET {name} = '{value}'")
    _execute(cluster.conninfo(), "SELECT pg_reload_conf()")


def _execute(conninfo: str, statements: str) -> None:
    with closing(psycopg.connect(conninfo, autocommit=True)) as connection:
        connection.execute(statements.encode())


@contextmanager
def home(address: Address, authority: Authority) -> Iterator[tuple[Path, dict[str, str]]]:
    """Make a home folder, and yield it with the environment of a shell whose commands reach ``address``."""
    with TemporaryDirectory(prefix="pgstow-docs-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's user reads in it
        programs = folder / "pgstow/bin"  # where README installs pgstow
        programs.mkdir(parents=True)
        for program, path in {"pgstow": PGSTOW, "aws": PGSTOW.with_name("aws"), "python3": sys.executable}.items():
            (programs / program).write_text(f'#!/bin/sh\nexec "{path}" "$@"\n')
            (programs / program).chmod(0o755)
        (folder / ".pg_service.conf").write_text(_SERVICES.format(host=HOST, new_port=address.new_port))
        yield (
            folder,
            {
                "PATH": f"{programs}:{os.environ['PATH']}",
                "HOME": str(folder),
                "XDG_STATE_HOME": str(folder / "state"),
                "LANG": "C.UTF-8",
                "TZ": "UTC",
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "PGHOST": HOST,
                "PGHOSTADDR": address.host,
                "PGPORT": str(address.port),
                "PGUSER": "postgres",
                "PGSERVICEFILE": str(folder / ".pg_service.conf"),
                "PGSSLROOTCERT": str(authority.bundle),
                "AWS_CA_BUNDLE": str(authority.bundle),
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
        )


def make_backups(folder: Path, address: Address, authority: Authority) -> None:
    """Make the backups that each page finds in its store: one of shop, and one of the whole server with shop in it."""
    with servers(address, authority, new=False), home(address, authority) as (_, environment):
        for what in ([], ["--all-databases"]):
            command = [PGSTOW, "backup", "service=shop", *what, "--to", f"file://{folder}?create=true", "--quiet"]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def newest_backup(store: Path) -> str:
    """Return the ID of the newest backup of the database shop."""
    return max(path.stem for path in store.glob("manifests/*/shop/*.json"))


def substitute(text: str, store: Path, address: Address, bucket: str, endpoint: str, authority: Authority) -> str:
    """Return a page's commands with names and times of this world. Each page has a bucket of its own."""
    later = datetime.now(UTC) + timedelta(minutes=1)
    replacements = {
        BACKUP_ID: newest_backup(store),
        TIME: f"{later:%Y-%m-%dT%H:%M}",
        rf"\b{BUCKET}\b": bucket,
        OTHER_S3: endpoint,
        PRIVATE_CA: str(authority.bundle),
        r"//new\.example\.com": f"//new.example.com:{address.new_port}",
        r"host=new\.example\.com": f"host=new.example.com port={address.new_port}",
    }
    for expression, replacement in replacements.items():
        text = re.sub(expression, replacement, text)
    return text


def fill_s3(bucket: str, store: Path, client: Any) -> None:
    """Make an S3 bucket, which can lock objects, with the objects of a folder."""
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    for path in _files(store):
        client.put_object(Bucket=bucket, Key=f"{PREFIX}/{path.relative_to(store)}", Body=path.read_bytes())


def fill_gcs(bucket: str, store: Path, client: Any) -> None:
    """Make a GCS bucket with the objects of a folder."""
    made = client.create_bucket(bucket)
    for path in _files(store):
        made.blob(f"{PREFIX}/{path.relative_to(store)}").upload_from_filename(path)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
