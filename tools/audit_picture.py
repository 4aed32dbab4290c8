"""Take the picture of an audit's page for docs/audit.md: ``python -m tools.audit_picture FILE.png``. It needs Chromium."""

import subprocess
import sys
import tempfile
from pathlib import Path

from support.audit_reports import audit_report

from pipeline.audit.html.page import render

_SIZE = "1180,2060"  # pixels


def main(target: Path) -> None:
    """Write the picture of the page about eight databases and half a year."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        page.write_text("".join(render(audit_report(8, 180))), "utf-8")
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        wanted = [f"--window-size={_SIZE}", f"--screenshot={target.absolute()}", page.as_uri()]
        subprocess.run(["chromium", *options, *wanted], check=True, stderr=subprocess.DEVNULL)  # noqa: S607


if __name__ == "__main__":
    main(Path(sys.argv[1]))
