"""Tamper with manifests."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object], *, checksum: bool = True) -> None:
    """Change the only manifest in a local store. With ``checksum``, make its checksum match again, as an attacker would."""
    [path] = (folder / "manifests").rglob("*.json")
    content = json.loads(path.read_bytes())
    change(content)
    path.write_bytes(canonical(content, checksum=checksum))


def canonical(content: dict[str, Any], *, checksum: bool = True) -> bytes:
    """Return a manifest's bytes. They follow the description in docs/manifest.md, and need none of pgstow's code."""
    if checksum:
        unsigned = {name: value for name, value in content.items() if name != "manifest_checksum"}
        content = unsigned | {"manifest_checksum": hashlib.sha256(canonical(unsigned, checksum=False)).hexdigest()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{text}\n".encode()


def forge_script(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the script of the only backup in a local store. Make all checksums and sizes match, as an attacker can."""
    [path] = (folder / "manifests").rglob("*.json")
    content = json.loads(path.read_bytes())
    [file] = content["files"]
    read = zstandard.ZstdDecompressor()
    stored = [content["objects"][part["object"]] for part in file["segments"]]
    parts = [
        (folder / body["key"]).read_bytes()[part["offset"] :][: part["length"]]
        for body, part in zip(stored, file["segments"], strict=True)
    ]
    script = change(b"".join(read.stream_reader(part, read_across_frames=True).read() for part in parts))
    frame = zstandard.ZstdCompressor().compress(script)
    digest = hashlib.sha256(frame).hexdigest()
    (folder / stored[0]["key"]).write_bytes(frame)
    stored[0] |= {"size": len(frame), "sha256": digest, "checksum": f"sha256:{digest}"}
    file |= {"size": len(script), "checksum": hashlib.sha256(script).hexdigest()}
    file["segments"] = [
        {"object": file["segments"][0]["object"], "offset": 0, "length": len(frame), "size": len(script)}
    ]
    path.write_bytes(canonical(content))
