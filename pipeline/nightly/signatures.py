"""The tables of pgstow.toml for signatures."""

from pydantic import Field

from pipeline.toml_file import Settings


class Signing(Settings):
    """How to sign the backups, the verifications and the removals."""

    key: str = Field(description="The private key that signs: file:PATH, awskms:KEY or gcpkms:KEY")
    passphrase_file: str | None = Field(
        default=None, description="The file with the passphrase of the private key; default: the key has no passphrase"
    )
    writer: str | None = Field(
        default=None,
        min_length=1,
        description="The name in the signatures; the signed backups of each name are a chain; default: the host's name",
    )
    state_dir: str | None = Field(
        default=None,
        description="The folder in which pgstow remembers the chains of this machine; default: as for pgstow backup --state-dir",
    )


class Trust(Settings):
    """Whom retention believes."""

    keys: list[str] = Field(
        default=[],
        description="Public keys, as for --trusted-key; retention never removes or counts a backup that none of them signed; "
        "default: every backup counts",
    )
    unsigned: bool = Field(
        default=False,
        description="Let retention count backups without a signature, too, apart from the signed ones",
    )
