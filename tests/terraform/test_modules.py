"""Tests that modules and examples are formatted and valid, that the modules' own tests pass, and that a policy scanner finds nothing."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.terraform import EXAMPLES, MODULES, SOURCE, TOOLS, Terraform


def test_formatting(terraform: Terraform) -> None:
    assert terraform.run(".", "fmt", "-check", "-recursive", "-diff") == ""


@pytest.mark.parametrize("folder", EXAMPLES)
def test_validity(terraform: Terraform, folder: str) -> None:
    """This validates the modules, too: the examples use each of them."""
    answer = json.loads(terraform.run(folder, "validate", "-json"))
    assert answer["valid"]
    assert answer["diagnostics"] == []


def test_a_wrong_argument_would_be_found(terraform: Terraform) -> None:
    """A stand-in replaces Google's provider. This test shows that the stand-in knows the resources' arguments."""
    wrong = terraform.copy / "modules" / "gcp-wrong"
    wrong.mkdir()
    (wrong / "main.tf").write_text('resource "google_storage_bucket" "wrong" {\n  name = "x"\n  loaction = "EU"\n}\n')
    with pytest.raises(AssertionError, match=r'"location" is required'):
        terraform.run("modules/gcp-wrong", "validate", "-no-color")


@pytest.mark.parametrize("folder", ["examples/aws-simple", "examples/gcp-simple"])
def test_a_simple_example_asks_for_three_things(folder: str) -> None:
    source = (SOURCE / folder / "main.tf").read_text("utf-8")
    assert len(re.findall(r"^variable ", source, re.MULTILINE)) == 3


@pytest.mark.parametrize("folder", [*MODULES, *EXAMPLES])
def test_no_provider_that_nobody_has_read(folder: str) -> None:
    """Every configuration refuses its provider's next major version."""
    source = "\n".join(path.read_text("utf-8") for path in (SOURCE / folder).glob("*.tf"))
    bounds = re.findall(r'source  = "hashicorp/(\w+)"\n +version = "(.+)"', source)
    assert bounds == [{"aws": ("aws", ">= 5.90, < 7.0"), "gcp": ("google", ">= 6.0, < 7.0")}[Path(folder).name[:3]]]


@pytest.mark.parametrize("folder", MODULES)
def test_own_tests(terraform: Terraform, folder: str) -> None:
    found = terraform.run(folder, "test", "-no-color")
    assert re.search(r"Success! [1-9]\d* passed, 0 failed\.", found), found


@pytest.mark.parametrize("folder", MODULES)
def test_every_variable_is_set_by_a_test_and_every_refusal_provoked(folder: str) -> None:
    tests = "\n".join(path.read_text("utf-8") for path in (SOURCE / folder / "tests").glob("*.tftest.hcl"))
    for name, body in _variables(SOURCE / folder):
        assert re.search(rf"^ +{name} +=", tests, re.MULTILINE), f"no test sets {name}"
        refusals = len(re.findall(rf"expect_failures = \[var\.{name}\]", tests))
        assert refusals >= body.count("validation {"), f"{name} refuses more than the tests try"


@pytest.mark.parametrize("folder", MODULES)
def test_readme_names_every_input_and_output(folder: str) -> None:
    readme = (SOURCE / folder / "README.md").read_text("utf-8")
    outputs = re.findall(r'^output "(\w+)"', (SOURCE / folder / "outputs.tf").read_text("utf-8"), re.MULTILINE)
    for name in [*outputs, *(name for name, _ in _variables(SOURCE / folder))]:
        assert f"| `{name}` |" in readme, name


@pytest.mark.timeout(600)
def test_policy_scanner() -> None:
    """Each exception is a comment in the resource, with a reason."""
    checkov = TOOLS / "checkov" / "bin" / "checkov"
    if not checkov.exists():
        pytest.skip("there is no checkov: run tools/terraform-providers")
    answer = subprocess.run(
        [
            checkov,
            "--skip-download",
            "--framework",
            "terraform",
            "--directory",
            SOURCE,
            "--skip-path",
            "/tests/",
            "--output",
            "json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(answer.stdout)
    assert found["summary"]["parsing_errors"] == 0
    assert found["summary"]["passed"] > 50
    assert [f"{check['check_id']} {check['resource']}" for check in found["results"]["failed_checks"]] == []


def _variables(folder: Path) -> Iterator[tuple[str, str]]:
    source = (folder / "variables.tf").read_text("utf-8")
    yield from re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', source, re.DOTALL | re.MULTILINE)
