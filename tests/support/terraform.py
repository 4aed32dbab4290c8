"""Run the ``terraform`` command in a copy of this repository's folder ``terraform``, with providers that this machine has."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "terraform"
TOOLS = ROOT / ".terraform-tools"
"""The folder that ``tools/terraform-providers`` makes."""

MODULES = sorted(path.parent.relative_to(SOURCE).as_posix() for path in SOURCE.glob("modules/*/main.tf"))
EXAMPLES = sorted(path.parent.relative_to(SOURCE).as_posix() for path in SOURCE.glob("examples/*/main.tf"))


@dataclass(frozen=True)
class Terraform:
    """Runs Terraform in a copy, so that no run leaves anything in the sources."""

    copy: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, folder: str, *arguments: str) -> str:
        """Run a command in a folder of the copy. Return its standard output. Raises AssertionError if the command fails.

        Skip the test if this machine lacks the folder's provider.
        """
        place = self.copy / folder
        if arguments[0] not in ("init", "fmt") and not (place / ".terraform").exists():
            require_provider("google" if "gcp" in folder else "aws")
            self.run(folder, "init", "-input=false", "-backend=false")
        answer = subprocess.run(
            ["terraform", f"-chdir={place}", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**_environment(), **self.env},
            check=False,
        )
        assert answer.returncode == 0, f"terraform {' '.join(arguments)} in {folder}:\n{answer.stdout}\n{answer.stderr}"
        return answer.stdout

    def outputs(self, folder: str) -> dict[str, Any]:
        """Return the outputs of the applied configuration in the folder, by name."""
        return {name: output["value"] for name, output in json.loads(self.run(folder, "output", "-json")).items()}


def copy_terraform(target: Path) -> Terraform:
    """Copy all modules and examples to ``target``. Skip the test if this machine lacks Terraform or its providers."""
    if not shutil.which("terraform"):
        pytest.skip("Terraform isn't installed")
    if not (TOOLS / "terraformrc").exists():
        pytest.skip("Terraform has no providers: run tools/terraform-providers")
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    return Terraform(target)


def require_provider(name: str) -> None:
    """Skip the test if Terraform's configuration has no place from which to take the provider."""
    if f"hashicorp/{name}" not in (TOOLS / "terraformrc").read_text("utf-8"):
        pytest.skip(f"Terraform has no provider for {name}: run tools/terraform-providers")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_", "GOOGLE_"))}
    return kept | {"TF_CLI_CONFIG_FILE": str(TOOLS / "terraformrc"), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
