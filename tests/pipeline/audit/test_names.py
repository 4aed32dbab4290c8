"""docs/audit.md explains each name of a finding, with its severity."""

import re

from support.pages import text_of

from pipeline.audit.names import SEVERITIES


def test_the_page_has_every_name() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| (critical|warning|note) \|", text_of("docs/audit.md"), re.MULTILINE)
    documented = {name: severity for names, severity in rows for name in re.findall("`([^`]+)`", names)}
    assert documented == {str(name): str(severity) for name, severity in SEVERITIES.items()}
