"""Timers: each is what its program takes, and starts a pgstow run that the command line takes."""

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support.pgstow import PGSTOW, assert_one_sentence, run_pgstow
from typer.main import get_command

from cli.main import app

ODD = "/etc/my 100% 'own' $HOME/pgstow.toml"


def schedule(*arguments: str) -> str:
    result = run_pgstow("schedule", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def assert_is_a_run(words: list[str], config: str) -> dict[str, Any]:
    """The command line takes the words after the program; what it takes them for."""
    program = get_command(app)
    context = program.make_context("pgstow", list(words))
    name, command, rest = program.resolve_command(context, list(words))  # type: ignore[attr-defined]
    assert name == "run"
    parameters = command.make_context(name, rest, parent=context).params
    assert str(parameters["config"]) == config
    return dict(parameters)


def units(folder: Path, *arguments: str) -> dict[str, Path]:
    """Both, in files of their own."""
    found: dict[str, Path] = {}
    for line in schedule("systemd", *arguments).splitlines(keepends=True):
        if line.startswith("# /etc/systemd/system/"):
            path = folder / line.rpartition("/")[2].strip()
            found[path.name] = path
        with path.open("a") as file:
            file.write(line)
    return found


def settings(unit: Path) -> dict[str, str]:
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


class TestSystemd:
    def test_what_it_says(self, tmp_path: Path) -> None:
        made = units(tmp_path, "--at", "3:05", "--every", "week", "--spread", "2h", "--on-failure", "page@%n.service")
        assert list(made) == ["pgstow.service", "pgstow.timer"]
        timer, service = settings(made["pgstow.timer"]), settings(made["pgstow.service"])
        assert timer["OnCalendar"] == "Sun *-*-* 03:05:00"
        assert (timer["RandomizedDelaySec"], timer["Persistent"]) == ("7200", "true")
        assert (service["Type"], service["OnFailure"], service["User"]) == ("oneshot", "page@%n.service", "pgstow")
        program, *words = shlex.split(service["ExecStart"])
        assert program == str(PGSTOW)
        assert assert_is_a_run(words, "/etc/pgstow/pgstow.toml")["log_format"] == "json"

    @pytest.mark.parametrize("config", ["/etc/pgstow/pgstow.toml", ODD])
    def test_systemd_takes_it(self, tmp_path: Path, config: str) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not on this machine")
        made = units(tmp_path, "--config", config, "--user", "root")

        def complaints() -> list[str]:
            command = ["systemd-analyze", "verify", "--man=no", *made.values()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return [line for line in done.stderr.splitlines() if "pgstow" in line]

        assert complaints() == []
        service = made["pgstow.service"]
        service.write_text(service.read_text().replace("MemoryMax=1G", "MemoryMax=much"))
        assert "'much'" in complaints()[0], "it would complain"

    @pytest.mark.parametrize(
        ("every", "expected"), [("hour", ":30:00"), ("day", "02:30:00"), ("week", "Sun "), ("month", "-01 02:30:00")]
    )
    def test_its_calendar_means_that(self, tmp_path: Path, every: str, expected: str) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not on this machine")
        calendar = settings(units(tmp_path, "--every", every)["pgstow.timer"])["OnCalendar"]
        done = subprocess.run(
            ["systemd-analyze", "calendar", "--iterations=2", calendar], capture_output=True, text=True, check=True
        )
        moments = [line for line in done.stdout.splitlines() if "Next elapse" in line or "Iter. #" in line]
        assert len(moments) == 2
        assert all(expected in moment for moment in moments)

    def test_a_file_of_any_name(self, tmp_path: Path) -> None:
        line = settings(units(tmp_path, "--config", ODD)["pgstow.service"])["ExecStart"]
        words = shlex.split(line.replace("%%", "%").replace("$$", "$"))[1:]
        assert_is_a_run(words, ODD)


class TestCron:
    @pytest.mark.parametrize(
        ("every", "fields"),
        [("hour", "5 * * * *"), ("day", "5 3 * * *"), ("week", "5 3 * * 0"), ("month", "5 3 1 * *")],
    )
    def test_what_it_says(self, every: str, fields: str) -> None:
        *comments, line = schedule("cron", "--at", "03:05", "--every", every, "--spread", "45m").splitlines()
        assert all(comment.startswith("# ") for comment in comments)
        assert line.startswith(f"{fields} nice -n 10 {PGSTOW} ")
        assert line.endswith(" >/dev/null")
        assert assert_is_a_run(shlex.split(line)[9:-1], "/etc/pgstow/pgstow.toml")["spread"] == 45 * 60

    @pytest.mark.parametrize("config", ["/etc/pgstow/pgstow.toml", ODD])
    def test_a_shell_takes_it(self, tmp_path: Path, config: str) -> None:
        """cron ends the command at a % that has no backslash before it, and takes that one away."""
        line = schedule("cron", "--config", config).splitlines()[-1]
        assert "%" not in line.replace(r"\%", "")
        command = line.split(" ", 5)[5].replace(r"\%", "%")
        (tmp_path / "nice").write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$WORDS"\n')
        (tmp_path / "nice").chmod(0o755)
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "WORDS": str(tmp_path / "words")}
        subprocess.run(["sh", "-c", command], check=True, env=env)
        words = (tmp_path / "words").read_text().split("\0")[:-1]
        assert words[:3] == ["-n", "10", str(PGSTOW)]
        assert_is_a_run(words[3:], config)


class TestKubernetes:
    IMAGE = ("kubernetes", "--image", "registry.example.com/pgstow:1")

    @pytest.mark.parametrize("more", [(), ("--time-zone", "Europe/Berlin"), ("--config", ODD), ("--every", "month")])
    def test_it_fits_the_official_schema(self, more: tuple[str, ...]) -> None:
        manifest = yaml.safe_load(schedule(*self.IMAGE, *more))
        for version in ("1.31", "1.34"):
            kubernetes_validate.validate(manifest, version, strict=True)

    def test_a_wrong_one_would_not(self) -> None:
        manifest = yaml.safe_load(schedule(*self.IMAGE).replace("concurrencyPolicy", "concurencyPolicy"))
        with pytest.raises(kubernetes_validate.ValidationError, match="concurencyPolicy"):
            kubernetes_validate.validate(manifest, "1.31", strict=True)

    def test_what_it_says(self) -> None:
        spec = yaml.safe_load(schedule(*self.IMAGE, "--at", "03:05", "--time-zone", "Europe/Berlin"))["spec"]
        assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == (
            "5 3 * * *",
            "Europe/Berlin",
            "Forbid",
        )
        pod = spec["jobTemplate"]["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["image"] == "registry.example.com/pgstow:1"
        assert container["command"] == ["pgstow"]
        assert assert_is_a_run(container["args"], "/etc/pgstow/pgstow.toml")["spread"] == 1800
        assert container["volumeMounts"][0]["mountPath"] == "/etc/pgstow"
        assert "env" not in container, "secrets by reference alone"
        assert container["envFrom"][0]["secretRef"]["name"] == "pgstow"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cron", "--at", "25:00"], "is not a time of the day"),
        (["cron", "--spread", "soon"], "is not a span of time"),
        (["cron", "--every", "fortnight"], "fortnight"),
        (["kubernetes"], "--image"),
        (["systemd", "--config", "pgstow.toml"], "an absolute path"),
    ],
)
def test_what_is_refused(arguments: list[str], words: str) -> None:
    result = run_pgstow("schedule", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_a_relative_path_is_one_sentence() -> None:
    assert_one_sentence(
        run_pgstow("schedule", "cron", "--config", "pgstow.toml"), 2, "timers run in folders of their own"
    )
