"""Manifests that someone tampered with."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object], *, checksum: bool = True) -> None:
    """Change the one manifest in a local store; ``checksum`` makes it match its content again, as a forger would."""
    [path] = (folder / "manifests").rglob("*.json")
    content = json.loads(path.read_bytes())
    change(content)
    path.write_bytes(canonical(content, checksum=checksum))


def canonical(content: dict[str, Any], *, checksum: bool = True) -> bytes:
    """A manifest's bytes by the description in docs/manifest.md alone, without pgstow's own code."""
    if checksum:
        unsigned = {name: value for name, value in content.items() if name != "manifest_checksum"}
        content = unsigned | {"manifest_checksum": hashlib.sha256(canonical(unsigned, checksum=False)).hexdigest()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{text}\n".encode()
