"""Tests of installations. uv and pipx install the wheel, with completions and manual pages. A minimal Debian gets the deb and the rpm."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.stored_sample import StoredSample
from typer.main import get_command

from cli.main import app

pytestmark = pytest.mark.timeout(900)  # a busy machine takes long to make a root

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SYSTEM_PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"


def run(*command: object, env: Mapping[str, object] | None = None) -> str:
    words = [str(word) for word in command]
    environment = os.environ | {name: str(value) for name, value in (env or {}).items()}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def commands(command: Any, path: str = "pgstow") -> Iterator[tuple[str, Any]]:
    """Yield each command with its path, such as ``pgstow config check``."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(BIN / "uv", "build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
    [built] = folder.glob("pgstow-*.whl")
    return built


@pytest.fixture(scope="module")
def prefix(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment into which ``uv tool install`` installed pgstow."""
    folder = tmp_path_factory.mktemp("uv")
    env = {"UV_TOOL_DIR": folder / "tools", "UV_TOOL_BIN_DIR": folder / "bin"}
    run(BIN / "uv", "tool", "install", "--python", sys.executable, wheel, env=env)
    assert run(folder / "bin/pgstow", "--version").startswith("pgstow ")
    return folder / "tools/pgstow"


def test_pipx_installs_it_with_manual_pages_and_completions(wheel: Path, tmp_path: Path) -> None:
    places = {"PIPX_HOME": "home", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man", "PIPX_COMPLETION_DIR": "share"}
    env = {name: tmp_path / place for name, place in places.items()}
    run(BIN / "pipx", "install", "--python", sys.executable, wheel, env=env)
    assert run(tmp_path / "bin/pgstow", "--version").startswith("pgstow ")
    assert (tmp_path / "man/man1/pgstow-backup.1").is_file()
    for place in (
        "bash-completion/completions/pgstow",
        "zsh/site-functions/_pgstow",
        "fish/vendor_completions.d/pgstow.fish",
    ):
        assert (tmp_path / "share" / place).is_file(), place


@pytest.mark.parametrize("path", [path for path, _ in commands(get_command(app))])
def test_each_command_has_a_manual_page_that_names_its_options(prefix: Path, path: str) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not on this machine")
    command = dict(commands(get_command(app)))[path]
    page = prefix / "share/man/man1" / f"{path.replace(' ', '-')}.1"
    unbroken = {"MANWIDTH": "1000", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    done = subprocess.run(
        ["man", "--local-file", "--warnings", "--no-hyphenation", "--no-justification", page],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | unbroken,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for parameter in command.params:
        options = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
        for option in options:
            assert re.search(rf"(^|[\s,/]){re.escape(option)}\b", done.stdout), option
        assert " ".join((parameter.help or "").split()) in " ".join(done.stdout.split())
    for example in (command.epilog or "").split("\n\n")[1:]:
        assert example in done.stdout
    for name in getattr(command, "commands", {}):
        assert f"{path.replace(' ', '-')}-{name}(1)" in done.stdout


def completes_in_bash(prefix: Path) -> str:
    script = prefix / "share/bash-completion/completions/pgstow"
    typed = 'COMP_WORDS=(pgstow sche) COMP_CWORD=1; _pgstow_completion pgstow; echo "${COMPREPLY[@]}"'
    return run("bash", "--norc", "-c", f'. "$0"; complete -p pgstow; {typed}', script)


def completes_in_fish(prefix: Path) -> str:
    return run(
        "fish", "--no-config", "-c", f"source {prefix}/share/fish/vendor_completions.d/*; complete -C 'pgstow sche'"
    )


def completes_in_zsh(prefix: Path) -> str:
    """Return what a zsh in a pseudo-terminal prints after the first Tab."""
    script = f"""
        zmodload zsh/zpty && zpty shell zsh -f -i
        zpty -w shell 'PS1=; fpath=({prefix}/share/zsh/site-functions $fpath); autoload -U compinit; compinit -u -D; echo ready'
        zpty -r -m shell answer '*ready*ready*'
        zpty -w -n shell $'pgstow sche\\t'
        zpty -r -m shell answer '*schedule*' && print -r -- $answer
        zpty -d shell
    """
    return run("zsh", "-f", "-c", script)


@pytest.mark.parametrize("complete", [completes_in_bash, completes_in_fish, completes_in_zsh])
def test_a_shell_completes_a_command(
    complete: Callable[[Path], str], prefix: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell = complete.__name__.rpartition("_")[2]
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    monkeypatch.setenv("PATH", f"{prefix / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "schedule" in complete(prefix)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the deb and the rpm."""
    folder = tmp_path_factory.mktemp("packages")
    run(sys.executable, ROOT / "tools/packages.py", folder, env={"PYTHONPATH": ROOT})
    return folder


@pytest.fixture(scope="module")
def clean_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root folder of a minimal Debian with the deb's dependencies. pytest would keep this large folder for three runs, so it is removed."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("making a root takes root and mmdebstrap")
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if release is None or not Path(SYSTEM_PYTHON).exists():
        pytest.skip("this system has another Python than the packages")
    folder = tmp_path_factory.mktemp("root")
    asked_for = f"{Path(SYSTEM_PYTHON).name},ca-certificates,passwd"
    options = ("--mode=root", "--variant=essential", "--quiet", "--dpkgopt=force-unsafe-io")
    made = subprocess.run(
        ["mmdebstrap", *options, f"--include={asked_for}", release[1], folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:  # Debian's mirror is out of reach, or this system may not mount
        pytest.skip(f"no root can be made here: {made.stderr.strip()[-300:]}")
    yield folder
    shutil.rmtree(folder)


def inside(root: Path, *command: object) -> str:
    return run("unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", root, *command)


def works(root: Path, sample: StoredSample) -> None:
    """Check that pgstow, run as the user pgstow, reads a store, and that its compiled modules find their libraries."""
    store = root / "srv/store"
    shutil.copytree(sample.folder, store)
    inside(root, "chown", "-R", "pgstow:pgstow", "/srv/store")
    as_user = ("setpriv", "--reuid=pgstow", "--regid=pgstow", "--clear-groups", "pgstow")
    assert inside(root, *as_user, "--version").startswith("pgstow ")
    assert inside(root, "env", "PYTHONPATH=/root", "pgstow", "--version").startswith("pgstow ")
    inside(root, *as_user, "verify", "--from", "/srv/store", "--level", "bytes", "--quiet")
    compiled = "import psycopg, zstandard, boto3, google.cloud.storage"
    inside(root, SYSTEM_PYTHON, "-IS", "-c", f"import sys; sys.path.insert(0, '/usr/lib/pgstow'); {compiled}")
    written = inside(root, *as_user, "schedule", "systemd")
    for name in ("pgstow.service", "pgstow.timer"):
        assert (root / "usr/lib/systemd/system" / name).read_text() in written
    shutil.rmtree(store)


def test_the_deb_and_the_rpm_in_a_clean_root(packages: Path, clean_root: Path, stored_sample: StoredSample) -> None:
    """Both packages use the same root, one after the other, because it takes long to make a root."""
    [deb], [rpm] = packages.glob("*.deb"), packages.glob("*.rpm")
    shutil.copy(deb, clean_root / "pgstow.deb")
    inside(clean_root, "dpkg", "--install", "/pgstow.deb")
    others = clean_root / "usr/lib/python3/dist-packages"
    others.mkdir(parents=True, exist_ok=True)
    (others / "others.pth").write_text("import os; os._exit(99)\n")
    (clean_root / "root/typer.py").write_text("raise SystemExit('somebody else runs in pgstow')\n")
    works(clean_root, stored_sample)
    assert (clean_root / "etc/pgstow").stat().st_mode & 0o777 == 0o750
    assert (clean_root / "usr/share/zsh/vendor-completions/_pgstow").is_symlink()
    enabled = "etc/systemd/system/timers.target.wants/pgstow.timer"
    assert not os.path.lexists(clean_root / enabled), "nothing runs before there is a pgstow.toml"
    (clean_root / "etc/pgstow/pgstow.toml").write_text("# mine\n")
    inside(clean_root, "dpkg", "--remove", "pgstow")
    assert (clean_root / "etc/pgstow/pgstow.toml").exists()
    assert not (clean_root / "usr/bin/pgstow").exists()
    assert not (clean_root / "usr/lib/pgstow").exists()

    if shutil.which("rpm") is None:
        pytest.skip("rpm is not on this machine")
    inside(clean_root, "userdel", "pgstow")
    run("rpm", "--root", clean_root, "--install", "--nodeps", rpm)  # dpkg installed the rpm's dependencies
    works(clean_root, stored_sample)
    run("rpm", "--root", clean_root, "--erase", "pgstow")
    assert not (clean_root / "usr/lib/pgstow").exists()


def test_what_the_packages_ask_for(packages: Path) -> None:
    [deb], [rpm] = packages.glob("*.deb"), packages.glob("*.rpm")
    asked_for = run("dpkg-deb", "--field", deb, "Depends").strip().split(", ")
    assert asked_for == [Path(SYSTEM_PYTHON).name, "ca-certificates", "passwd"]
    assert run("dpkg-deb", "--field", deb, "Recommends").strip() == "postgresql-client"
    if shutil.which("rpm"):
        assert run("rpm", "-qp", "--requires", rpm).splitlines()[:3] == [
            SYSTEM_PYTHON,
            "ca-certificates",
            "shadow-utils",
        ]
        assert run("rpm", "-qp", "--queryformat", "%{LICENSE}", rpm) == "Apache-2.0"
