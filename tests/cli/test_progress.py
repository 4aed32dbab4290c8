"""The progress of a running command: a bar on a terminal of 80 columns, and lines elsewhere. Afterwards, the bar is gone."""

import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest
from support.faulty_http import Fault, FaultyProxy
from support.object_stores import StoreBucket
from support.pgstow import PATIENCE, run_pgstow

from cli.progress import show_progress
from pipeline.events import Progress, Started

SCRIPT = """
import sys, time
from cli import errors, stdio
from cli.progress import show_progress
from pipeline.events import Notice, Progress, Started

GIB = 1 << 30
stdio.take_over()
drawn = []
write = sys.stderr.write
sys.stderr.write = lambda text: drawn.append(text) or write(text)
with errors.reported(debug=False), show_progress(quiet=False) as notify:
    notify(Started("Dumping shop"))
    for amounts, event in (
        ("168.0", Progress(168 << 20, 1020, 0, ("public.a_table_with_a_long_name_" + "x" * 60, "second", "third", "fourth"))),
        ("999.0", Progress(999 * GIB, 1000 * GIB, 3 * GIB, ("public.\\x1b[31mred",))),
        ("1.0 MiB of", Progress(1 << 20, 1000 * GIB, 0)),
        ("3 of", Progress(3, 40, 0, unit="objects")),
    ):
        notify(event)
        while {draws} and not any(amounts in text for text in drawn):
            time.sleep(0.01)
    print("drawn", flush=True)
    time.sleep({wait})
"""
MOVES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@contextmanager
def on_a_terminal(
    environment: Mapping[str, str], wait: int = 0, *, draws: bool = True
) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """Run the script on a terminal of 80 columns. Yield the process, and a list. After the block, the list has the terminal's output."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    shown: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("{wait}", str(wait)).replace("{draws}", str(draws))],
        stdin=its,
        stdout=subprocess.PIPE,
        stderr=its,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", **environment},
    ) as process:
        os.close(its)
        yield process, shown
    received = b""
    with suppress(OSError):  # EIO: the other end is closed, and all is read
        while part := os.read(ours, 65536):
            received += part
    os.close(ours)
    shown.append(received.decode())


def test_a_bar_fits_and_never_lies() -> None:
    with on_a_terminal({}) as (process, shown):
        assert process.wait(PATIENCE) == 0
    [text] = shown
    rows = [MOVES.sub("", row) for row in re.split(r"\r|\n", text)]
    assert max(map(len, rows)) == 80
    [first, second, third] = (
        next(row for row in rows if amounts in row)
        for amounts in ("168.0 MiB of 168.0 MiB", "999.0 GiB of 1000.0 GiB", "3 of 40 objects")
    )
    assert first.startswith("100%")
    assert "public.a_table" in first
    assert second.startswith(" 99%")
    assert " left public.␛[31mred" in second
    assert third.startswith("  7%")
    assert " left" not in next(row for row in rows if "1.0 MiB of 1000.0 GiB" in row), (
        "0% done says nothing about the rest"
    )
    assert not re.search(r"\d{3,}%", text.replace("100%", ""))
    assert_gone(text)


def test_ctrl_c_leaves_no_bar_behind() -> None:
    with on_a_terminal({}, wait=60) as (process, shown):
        assert process.stdout is not None
        assert process.stdout.readline() == b"drawn\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    assert_gone(shown[0])


def assert_gone(text: str) -> None:
    """Assert that the bar's row is erased after it was drawn for the last time, and that the cursor is shown again."""
    after = text.rpartition("objects")[2]
    assert "\x1b[2K" in after
    assert "\x1b[?25h" in after
    assert "%" not in after


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_without_a_cursor_gets_lines(kind: str) -> None:
    with on_a_terminal({"TERM": kind}, draws=False) as (process, shown):
        assert process.wait(PATIENCE) == 0
    assert shown == ["Dumping shop …\r\n"]


def test_how_long_the_rest_takes_is_reckoned_from_the_step_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dump of a database may begin while another dump is half done. An attacker's manifest may name any size."""
    now = 0.0
    monkeypatch.setattr("cli.progress.time", SimpleNamespace(monotonic=lambda: now))
    with show_progress(quiet=False) as notify:
        for seconds, event in (
            (0, Started("Dumping one")),
            (0, Progress(0, 2000, 0)),
            (1000, Progress(1000, 2000, 0)),
            (0, Started("Dumping two")),
            (0, Progress(1000, 3000, 0)),
            (100, Progress(2000, 3000, 0)),
            (100, Progress(2001, 2**63 - 1, 0)),
        ):
            now += seconds
            notify(event)
    lines = [line for line in capsys.readouterr().err.splitlines() if "%" in line]
    assert [line.partition(", about ")[2] for line in lines] == ["0:16:40 left", "0:01:40 left", ""]


def test_retries_are_told_while_they_happen(s3_bucket: StoreBucket) -> None:
    with FaultyProxy(s3_bucket.endpoint) as proxy:
        proxy.fail(with_=Fault.SLOW_DOWN, times=3)
        listed = run_pgstow("list", "--from", s3_bucket.url_at(proxy.url))
        assert listed.exit_code == 0
        assert re.fullmatch(
            r"pgstow: s3://\S+: the store failed \(SlowDown.*\); retrying until \d\d:\d\d:\d\d \(attempt 3\)\n",
            listed.stderr,
        )
        proxy.fail(with_=Fault.SLOW_DOWN, times=3)
        quiet = run_pgstow("verify", "--from", s3_bucket.url_at(proxy.url), "--quiet")
        assert "retrying" not in quiet.stderr
