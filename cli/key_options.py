"""The options for sealed backups: the recipients of a backup, and the identities that open it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from pipeline.trust.age import Recipients
    from pipeline.trust.seal import Keys

SEALING = "Sealing"
_STANDARD_INPUT = "-"

RecipientTexts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--recipient",
        metavar="KEY",
        help="Seal the backup to this recipient: a public key of age (age1…), or of ssh (ssh-ed25519 or ssh-rsa); can be repeated. "
        "Whoever has the identity of one recipient can open the backup",
        rich_help_panel=SEALING,
    ),
]
RecipientsFiles: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--recipients-file",
        metavar="FILE",
        help="Seal the backup to the recipients in this file, one on each line; can be repeated",
        rich_help_panel=SEALING,
    ),
]
IdentityFiles: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        help="A file with identities, which are secret keys of age or ssh, for a sealed backup; can be repeated. '-' means standard input",
        rich_help_panel=SEALING,
    ),
]
IdentityCommand: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="A command that prints identities for a sealed backup, such as 'age --decrypt key.age'. pgstow runs it without a shell",
        rich_help_panel=SEALING,
    ),
]


def read_recipients(texts: list[str] | None, files: list[Path] | None) -> "Recipients | None":
    """Return the recipients that the options name; None if the options are missing. Raise InvalidRequest."""
    if not (texts or files):
        return None
    from pipeline.trust import key_files

    return key_files.read_recipients(texts or (), files or ())


def read_keys(files: list[str] | None, command: str | None, *, quiet: bool) -> "Keys":
    """Return the keys that the options name. Unless ``quiet``, warn of a file that other users may read. Raise InvalidRequest."""
    from pipeline.trust import key_files
    from pipeline.trust.age import Identities
    from pipeline.trust.seal import Keys

    identities = Identities()
    for name in files or ():
        if name == _STANDARD_INPUT:
            identities += Identities.parse(sys.stdin.buffer.read(), "Standard input")
            continue
        identities += key_files.read_identities(Path(name))
        if not quiet:
            warn_if_open(Path(name))
    if command is not None:
        identities += key_files.ask_for_identities(command)
    return Keys(identities)


def warn_if_open(file: Path) -> None:
    """Warn if users other than the owner may read a file of secret keys."""
    from cli.errors import print_error
    from pipeline.trust.key_files import is_open_to_others

    if is_open_to_others(file):
        print_error(
            f"Other users may read the secret keys in {file}: let only its owner use it, with chmod 0600 {file}."
        )
