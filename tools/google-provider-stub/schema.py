"""Print the arguments of Google's resources in FOLDER's .tf files, as JSON: schema.py TYPINGS FOLDER.

TYPINGS is a folder with the TypeScript declarations (typings) of cdktf's Google provider.

The typings lack some facts. This module treats every optional attribute as computed, and repeated blocks as lists. It checks no value.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

_SIMPLE: dict[str, Any] = {
    "string": "string",
    "number": "number",
    "boolean": "bool",
    "string[]": ["list", "string"],
    "number[]": ["list", "number"],
}


def used(folder: Path) -> set[tuple[str, str]]:
    """Return the kind and the name of each resource and data source, such as ``("resource", "google_storage_bucket")``."""
    return {
        (found.group(1), found.group(2))
        for file in folder.glob("**/*.tf")
        if ".terraform" not in file.parts
        for found in re.finditer(r'^(resource|data) "(google_\w+)"', file.read_text("utf-8"), re.MULTILINE)
    }


def schema(typings: Path, kind: str, name: str) -> dict[str, Any]:
    """Return the attributes and blocks of one resource or data source."""
    folder = name.replace("_", "-").removeprefix("google-") if kind == "resource" else f"data-{name}".replace("_", "-")
    class_name = "".join(word.capitalize() for word in folder.split("-"))
    source = (typings / folder / "index.d.ts").read_text("utf-8")
    interfaces = {
        found.group(1): [
            (prop.group(1), prop.group(2) != "?", " ".join(prop.group(3).split()))
            for prop in re.finditer(
                r"^    readonly (\w+)(\??): ((?:\{[^}]*\})[^;]*|[^;]+);", found.group(2), re.MULTILINE
            )
        ]
        for found in re.finditer(
            r"^export interface (\w+)(?: extends [^{]+)? \{(.*?)^\}", source, re.DOTALL | re.MULTILINE
        )
    }

    def block(interface: str) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for prop, required, annotation in interfaces[interface]:
            bare = annotation.replace(" | cdktf.IResolvable", "")
            simple = _SIMPLE.get(bare) or (["map", "string"] if bare.startswith("{") else None)
            if simple:
                optional = not required
                attributes[_snake(prop)] = {
                    "type": simple,
                    "required": required,
                    "optional": optional,
                    "computed": optional,
                }
            elif (inner := bare.removesuffix("[]")) in interfaces:
                blocks[_snake(prop)] = {
                    "block": block(inner),
                    "max": 0 if bare.endswith("[]") else 1,
                    "min": 1 if required else 0,
                    "single": prop == "timeouts",
                }
        return {"attributes": attributes, "blocks": blocks}

    found = block(f"{class_name}Config")
    declared = re.search(rf"^export declare class {class_name} extends.*?^\}}", source, re.DOTALL | re.MULTILINE)
    if not declared:
        raise LookupError(f"the typings of {folder} have no class {class_name}")
    for getter, annotation in re.findall(r"^    get (\w+)\(\): ([^;]+);", declared.group(0), re.MULTILINE):
        key = _snake(getter)
        known = key.endswith("_input") or key in found["attributes"] or key in found["blocks"]
        if not known and annotation.strip() in ("string", "number"):
            found["attributes"][key] = {"type": annotation.strip(), "computed": True}
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", lambda capital: "_" + capital.group(1).lower(), name)


if __name__ == "__main__":
    schemas: dict[str, dict[str, Any]] = {"resource": {}, "data": {}}
    for kind, name in sorted(used(Path(sys.argv[2]))):
        schemas[kind][name] = schema(Path(sys.argv[1]), kind, name)
    sys.stdout.write(json.dumps(schemas, indent=1))
