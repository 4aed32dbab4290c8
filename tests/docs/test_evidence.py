"""docs/evidence.md maps controls to fields of records and to findings. They exist."""

import re
from collections.abc import Iterator
from itertools import chain

from support.pages import text_of

from pipeline.audit.names import SEVERITIES
from pipeline.audit.policy import Expectations
from pipeline.catalog.attestation import Attestation, RestoreProof
from pipeline.catalog.manifest import Encryption, Manifest

_NAME = re.compile(r"`([a-z_.-]+)`")


def _rows() -> Iterator[tuple[str, str]]:
    """Yield the evidence and the findings of each row of the maps."""
    maps = text_of("docs/evidence.md").partition("## Which record answers which control")[2].partition("\n## ")[0]
    for line in maps.splitlines():
        if line.startswith("| ") and not line.startswith("| Control |"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            yield cells[-2], cells[-1]


def test_the_findings_exist() -> None:
    named = set(chain.from_iterable(_NAME.findall(findings) for _, findings in _rows()))
    assert named <= set(SEVERITIES)
    assert len(named) > 20


def test_the_fields_exist() -> None:
    models = {
        "manifest": {*Manifest.model_fields, *(f"encryption.{name}" for name in Encryption.model_fields)},
        "attestation": {*Attestation.model_fields, *(f"restore.{name}" for name in RestoreProof.model_fields)},
    }
    seen = 0
    for evidence, _ in _rows():
        for part in evidence.split(";"):
            record, colon, fields = part.strip().partition(": ")
            if colon and record in models:
                names = set(_NAME.findall(fields))
                assert names <= models[record], part
                seen += len(names)
    assert seen > 20


def test_the_keys_of_the_policy_exist() -> None:
    """The page names keys of audit.toml beside AWS's controls."""
    keys = {key for evidence, _ in _rows() if "audit.toml" in evidence for key in _NAME.findall(evidence)}
    assert {"schedule", "rpo", "locked_for", "rto"} <= keys
    assert keys - set(Manifest.model_fields) - set(Attestation.model_fields) <= set(Expectations.model_fields)
