"""One copy of terraform/, and one application of the AWS example, for all tests."""

from collections.abc import Iterator

import pytest
from support.applied_example import AppliedExample, apply_example, moto_process
from support.terraform import Terraform, copy_terraform


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """A copy of all modules and examples."""
    return copy_terraform(tmp_path_factory.mktemp("terraform") / "terraform")


@pytest.fixture(scope="session")
def applied(terraform: Terraform) -> Iterator[AppliedExample]:
    """The AWS example, applied to moto, with IAM enforced. It takes a minute: so long the provider waits for a lifecycle rule to settle."""
    with moto_process() as endpoint:
        example = apply_example(terraform, endpoint)
        yield example
        for client in example.clients.values():
            client.close()
