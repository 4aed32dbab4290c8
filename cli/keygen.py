"""``pgstow keygen``."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.command import Commands

app = Commands()


@app.command(
    "keygen",
    examples=[
        "pgstow keygen --output backup.key",
        "pgstow keygen | age --passphrase --output backup.key.age",
    ],
)
def keygen(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write, which only you may read. It must not exist. Default: standard output",
        ),
    ] = None,
) -> None:
    """Make an identity and its recipient for sealed backups, as age-keygen does.

    The identity is a secret key: keep it off the machines that back up. The recipient is the public key, for --recipient.
    """
    from pipeline.trust.key_files import new_identity_file, write_private

    text, public = new_identity_file(datetime.now(UTC))
    if output is None:
        print(text, end="")
        print(f"Public key: {public}", file=sys.stderr)
    else:
        write_private(output, text)
        print(public)
