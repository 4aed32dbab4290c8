"""Make a deb and an rpm with pgstow, all Python packages it needs, manual pages, completions and systemd's units. packages.py FOLDER

The packages fit this machine's kind of processor, and the minor version of Python that runs this module. They use the system's Python. nfpm
writes both formats. https://nfpm.goreleaser.com
"""

import compileall
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import metadata
from pathlib import Path
from py_compile import PycInvalidationMode

SOURCE = Path(__file__).parents[1]
PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = "/usr/lib/pgstow"
FORMATS = ("deb", "rpm")

# Isolated (-I): a backup runs no code from the environment, the current folder, or other packages of the system.
_LAUNCHER = f"""\
#!{PYTHON} -IS
import sys

sys.path.insert(0, "{LIBRARY}")

from cli.__main__ import main

main()
"""

_INSTALLED = """\
#!/bin/sh
set -e
getent passwd pgstow >/dev/null ||
    useradd --system --user-group --home-dir /var/lib/pgstow --shell /usr/sbin/nologin --comment "Backs up PostgreSQL" pgstow
install -d -o pgstow -g pgstow -m 0750 /var/lib/pgstow
install -d -o root -g pgstow -m 0750 /etc/pgstow
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
"""

# dpkg passes "remove", and rpm the number of remaining versions. The configuration and the user pgstow stay.
_REMOVING = """\
#!/bin/sh
set -e
case $1 in remove | 0) if [ -d /run/systemd/system ]; then systemctl disable --now pgstow.timer; fi ;; esac
"""

_REMOVED = """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
"""


def main() -> None:
    """Make both packages in the folder that the command line names."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pgstow-packages-") as name:
        work = Path(name)
        lay_out(work / "root", work)
        configuration = work / "nfpm.json"  # JSON is YAML
        configuration.write_text(json.dumps(describe(work)))
        for kind in FORMATS:
            _run("nfpm", "package", "--config", configuration, "--packager", kind, "--target", target)


def lay_out(root: Path, work: Path) -> None:
    """Write all files of the packages below ``root``."""
    from pipeline.nightly.schedule import Schedule, systemd_units

    _run("uv", "build", "--quiet", "--wheel", "--out-dir", work, SOURCE)
    [wheel] = work.glob("*.whl")
    library = root / LIBRARY[1:]
    _run("uv", "pip", "install", "--quiet", "--target", library, "--constraint", SOURCE / "requirements.lock", wheel)
    shutil.rmtree(library / "bin")
    (library / ".lock").unlink(missing_ok=True)
    shutil.move(library / "share", root / "usr/share")
    # The user that runs pgstow may not write here. Without these files, Python would compile every module at each start.
    compileall.compile_dir(library, stripdir=root, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    _write(root / "usr/bin/pgstow", _LAUNCHER, mode=0o755)
    schedule = Schedule(2, 30, "day", 1800, "/etc/pgstow/pgstow.toml")
    for name, unit in systemd_units(schedule, "/usr/bin/pgstow", user="pgstow", on_failure=None).items():
        _write(root / "usr/lib/systemd/system" / name, unit)
    _write(root / "usr/share/doc/pgstow/copyright", (SOURCE / "LICENSE").read_text("utf-8"))


def describe(work: Path) -> dict[str, object]:
    """Return nfpm's configuration, with the scripts written to ``work``."""
    project = metadata("pgstow")
    names = {"postinstall": _INSTALLED, "preremove": _REMOVING, "postremove": _REMOVED}
    for name, text in names.items():
        _write(work / name, text, mode=0o755)
    return {
        "name": "pgstow",
        "arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "version": project["Version"],
        "section": "database",
        "maintainer": "pgstow",
        "description": project["Summary"],
        "license": project["License-Expression"],
        "contents": [
            {"src": str(work / "root"), "dst": "/", "type": "tree"},
            # zsh on Debian looks in another folder.
            {
                "src": "/usr/share/zsh/site-functions/_pgstow",
                "dst": "/usr/share/zsh/vendor-completions/_pgstow",
                "type": "symlink",
                "packager": "deb",
            },
        ],
        "scripts": {name: str(work / name) for name in names},
        "overrides": {
            "deb": {
                "depends": [Path(PYTHON).name, "ca-certificates", "passwd"],
                "recommends": ["postgresql-client"],
            },
            "rpm": {"depends": [PYTHON, "ca-certificates", "shadow-utils"], "recommends": ["postgresql"]},
        },
    }


def _write(file: Path, text: str, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    file.chmod(mode)


def _run(program: str, *arguments: object) -> None:
    subprocess.run([Path(sys.executable).with_name(program), *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
