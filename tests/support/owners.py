"""People with an identity of age's, who can open what is sealed to them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Somebody with an identity of age's."""

    identity: Path
    recipient: str


def new_owner(path: Path) -> Owner:
    """Make an identity with age's own program, and write it to the file ``path``."""
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    made = subprocess.run(["age-keygen", "-y", path], check=True, capture_output=True, text=True)
    return Owner(path, made.stdout.strip())


def open_with_age(identity: Path, sealed: Path) -> bytes:
    """Return the content of a sealed file, by age's own program."""
    return subprocess.run(["age", "--decrypt", "--identity", identity, sealed], check=True, capture_output=True).stdout
