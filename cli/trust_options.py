"""The options for signatures, which several commands share."""

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from cli.key_options import warn_if_open
from cli.values import parse_sha256

if TYPE_CHECKING:
    from pipeline.backup.signing import Signing
    from pipeline.nightly.settings import Config
    from pipeline.trust.envelope import Signer
    from pipeline.trust.policy import Trust

PANEL = "Signatures"

TrustedKeys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-key",
        metavar="FILE",
        help="A public key, in PEM. Ignore what no such key signed; can be repeated. FILE:verify or FILE:backup,prune trusts the key "
        "only for these purposes. Default: all three",
        rich_help_panel=PANEL,
    ),
]
ExpectHead: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SHA256",
        parser=parse_sha256,
        help="The SHA-256 that an earlier run printed for a head. Its statement must still be in the chain; can be repeated",
        rich_help_panel=PANEL,
    ),
]
Unsigned: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--unsigned",
        help="If BACKUP is an ID, use the backup even if no --trusted-key signed it",
        rich_help_panel=PANEL,
    ),
]
SignWith: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="The private key that signs: file:PATH (PEM), awskms:KEY or gcpkms:KEY",
        rich_help_panel=PANEL,
    ),
]
SignPassphrase: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--sign-passphrase-file",
        metavar="FILE",
        help="The file with the passphrase of the private key",
        rich_help_panel=PANEL,
    ),
]
Writer: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The name in the signatures. The signed backups of each name are a chain. Default: the host's name",
        rich_help_panel=PANEL,
    ),
]
StateDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        file_okay=False,
        help="The folder in which pgstow remembers the chains of this machine. Default: $XDG_STATE_HOME/pgstow. "
        "Without this variable, /var/lib/pgstow for root, or else ~/.local/state/pgstow",
        rich_help_panel=PANEL,
    ),
]


def make_trust(keys: list[str] | None) -> "Trust | None":
    """Return the trust in the given keys; None if no key is given. Raise InvalidRequest if a file holds no public key."""
    if not keys:
        return None
    from pipeline.trust.policy import Trust

    return Trust.parse(keys)


def make_signer(uri: str | None, passphrase_file: Path | None, *, warn: bool = True) -> "Signer | None":
    """Return the key that signs; None if no key is given. If ``warn``, warn of a file that other users may read.

    Raise InvalidRequest, ProgramMissing or SigningFailed.
    """
    from pipeline.errors import InvalidRequest

    if uri is None:
        if passphrase_file is not None:
            raise InvalidRequest("--sign-passphrase-file needs --sign-with.")
        return None
    from pipeline.trust.signing import open_signer

    signer = open_signer(uri, passphrase_file)
    if warn and uri.startswith("file:"):
        warn_if_open(Path(uri.removeprefix("file:")))
    return signer


def make_signing(
    uri: str | None,
    passphrase_file: Path | None,
    writer: str | None,
    states: Path | None,
    trust: "Trust | None" = None,
    *,
    warn: bool = True,
) -> "Signing | None":
    """Return how to sign backups; None if no key is given. Warn and raise as :func:`make_signer` does.

    ``trust`` has further keys that may have signed the writer's earlier backups.
    """
    from pipeline.errors import InvalidRequest

    signer = make_signer(uri, passphrase_file, warn=warn)
    if signer is None:
        if writer is not None or states is not None:
            raise InvalidRequest("--writer and --state-dir need --sign-with.")
        return None
    from pipeline.backup.signing import Signing

    return Signing(signer, writer or platform.node(), states or default_states(), trust)


def open_keys(config: "Config") -> "tuple[Signing | None, Trust | None]":
    """Return how pgstow.toml signs, and whom it trusts.

    Raise as :func:`make_trust` and :func:`make_signer` do. Raise InvalidRequest if retention would ignore the backups that the
    file signs.
    """
    trust, signing = make_trust(config.trust.keys), config.signing
    if signing is None:
        return None, trust
    from pipeline.errors import InvalidRequest
    from pipeline.trust.statement import Purpose

    passphrase, states = (None if path is None else Path(path) for path in (signing.passphrase_file, signing.state_dir))
    made = make_signing(signing.key, passphrase, signing.writer, states, trust)
    if config.retention and made and trust and not trust.has(made.signer.public_key, Purpose.BACKUP):
        raise InvalidRequest(
            "[trust] doesn't trust the key in [signing] to back up, so retention would ignore every new backup: "
            "add its public key to keys."
        )
    return made, trust


def default_states() -> Path:
    """Return the folder in which pgstow remembers the chains, unless the user names another folder. systemd sets STATE_DIRECTORY."""
    if folder := os.environ.get("STATE_DIRECTORY"):
        return Path(folder)
    if home := os.environ.get("XDG_STATE_HOME"):
        return Path(home) / "pgstow"
    return Path("/var/lib/pgstow") if os.geteuid() == 0 else Path.home() / ".local/state/pgstow"
