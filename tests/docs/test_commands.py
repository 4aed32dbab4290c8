"""The commands of README.md, the tutorial and the how-to pages, run against real servers. See tests/support/pages.py for the rules."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.documented_world import (
    Address,
    fill_gcs,
    fill_s3,
    home,
    make_backups,
    servers,
    substitute,
)
from support.object_stores import StoreBucket
from support.pages import script_of, text_of
from support.patience import PATIENCE
from support.tls import Authority, tls_in_front_of

RECOVERY = "docs/recovery.md"
"""This page has stricter rules: tests/integration/test_recovery.py runs it with the few programs that it names."""


def _pages() -> list[str]:
    """Return README.md, and the pages that docs/index.md lists as a tutorial or as a how-to."""
    sections = re.findall(r"^## (?:Tutorial|How-to)\n(.*?)(?=^## )", text_of("docs/index.md"), re.MULTILINE | re.DOTALL)
    assert len(sections) == 2
    listed = [
        f"docs/{name}"
        for section in sections
        for name in re.findall(r"^- \[.*?\]\(([\w-]+\.md)\)", section, re.MULTILINE)
    ]
    assert RECOVERY in listed
    return ["README.md", *(page for page in listed if page != RECOVERY)]


_END = "reached-the-end"
_SHELL = 'script=$0 page=$1; exec 9>&1; BASH_XTRACEFD=9 PS4="+ $page:\\$LINENO: "; . "$script"'
_SHOWN = 80  # lines of output


@dataclass(frozen=True)
class World:
    """What all pages share."""

    address: Address
    authority: Authority
    store: Path
    """A folder with the backups that each page finds in its store."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(Address.free(), Authority(tmp_path_factory.mktemp("ca")), tmp_path_factory.mktemp("store"))
    make_backups(made.store, made.address, made.authority)
    return made


@pytest.fixture
def https_endpoint(s3_endpoint: str, world: World) -> Iterator[str]:
    """The URL of the S3 server behind TLS."""
    with tls_in_front_of(s3_endpoint, world.authority.certify("localhost")) as port:
        yield f"https://localhost:{port}"


@pytest.mark.parametrize("name", _pages())
def test_commands_run(
    name: str,
    world: World,
    https_endpoint: str,
    s3_client: Any,
    gcs_bucket: StoreBucket,
    s3_endpoint: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING", logger="werkzeug")  # moto's requests would hide what the commands said
    text = script_of(name, text_of(name))
    bucket = f"bucket-{uuid.uuid4().hex}"
    for scheme, copy in sorted(set(re.findall(r"(s3|gs)://my-backups([\w-]*)", text))):
        fill, client = (fill_s3, s3_client) if scheme == "s3" else (fill_gcs, gcs_bucket.client)
        fill(bucket + copy, world.store, client)
    text = substitute(text, world.store, world.address, bucket, https_endpoint, world.authority)
    script, output = tmp_path / "script", tmp_path / "output"
    script.write_text(f"{text}touch ~/{_END}\n")
    new = any(name in text for name in ("new.example.com", "service=new", "PGSERVICE=new"))
    with (
        servers(world.address, world.authority, new=new),
        home(world.address, world.authority) as (folder, environment),
        output.open("w") as file,
    ):
        environment |= {"AWS_ENDPOINT_URL": s3_endpoint, "STORAGE_EMULATOR_HOST": gcs_bucket.endpoint}
        (folder / "work").mkdir()
        done = subprocess.run(
            ["timeout", str(PATIENCE), "bash", "-euo", "pipefail", "-c", _SHELL, script, name],
            cwd=folder / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        reached = (folder / _END).exists()
    if done.returncode:
        last = output.read_text(errors="replace").splitlines()[-_SHOWN:]
        pytest.fail(f"A command of {name} ended with {done.returncode}:\n" + "\n".join(last), pytrace=False)
    assert reached, f"a command of {name} ends the shell"
