"""The progress of a command on standard error: a bar on a terminal, or a line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cli.display import format_size, one_line, one_sentence
from pipeline.counting import counted
from pipeline.events import Event, Notice, Notify, Progress, Started

if TYPE_CHECKING:
    from rich.console import Console

_LINE_INTERVAL = 10.0  # seconds
_LONGEST_LEFT = (
    30 * 86400
)  # seconds; a longer time is no help, and a huge size in a manifest could overflow a timedelta
_BAR_WIDTH = 20  # columns; the terminal may have 80


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Notify]:
    """Yield a callable that shows events on standard error: with a bar on a terminal, in plain lines elsewhere.

    If ``quiet``, the callable shows only notices. A terminal that can't move its cursor (``TERM=dumb``) gets lines.
    """
    if quiet:
        yield _show_notice
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        with _bar(console) as notify:
            yield notify
    else:
        yield _Lines()


def _show_notice(event: Event) -> None:
    if isinstance(event, Notice):
        print(f"pgstow: {one_sentence(event.text)}", file=sys.stderr)


def _share(done: int, total: int) -> str:
    """Return the share in whole percent, rounded down: 100% is the end."""
    return f"{min(100, 100 * done // total)}%" if total else "…"


def _amounts(event: Progress) -> str:
    if event.unit == "objects":
        return f"{event.done:,} of {counted(event.total, 'object')}"
    return f"{format_size(event.done)} of {format_size(max(event.done, event.total))}"


class _Pace:
    """The speed of a step. The first progress of a step may include work that was done before the step."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin another step."""
        self._begun: float | None = None
        self._before = 0

    def left(self, event: Progress) -> str:
        """Return in words how long the rest takes at the average speed of the step; an empty text if the time is unknown."""
        if self._begun is None:
            self._begun, self._before = time.monotonic(), event.done
        done, rest = event.done - self._before, event.total - event.done
        if done <= 0 or rest <= 0 or 100 * event.done < event.total:  # too little for an estimate
            return ""
        seconds = (time.monotonic() - self._begun) * rest / done
        return f"{timedelta(seconds=round(seconds))} left" if seconds < _LONGEST_LEFT else ""


class _Lines:
    """Print a line for each step, and a line about every ten seconds, so that a log shows that the command still works."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._pace = _Pace()

    def __call__(self, event: Event) -> None:
        match event:
            case Started(step):
                self._pace.begin()
                print(f"{one_line(step)} …", file=sys.stderr, flush=True)
            case Notice():
                _show_notice(event)
            case Progress(done, total, stored):
                left = self._pace.left(event)
                if time.monotonic() - self._last < _LINE_INTERVAL:
                    return
                self._last = time.monotonic()
                moved = f", {format_size(stored)} moved" if stored else ""
                about = f", about {left}" if left else ""
                print(f"{_share(done, total)} {_amounts(event)}{moved}{about}", file=sys.stderr, flush=True)


@contextmanager
def _bar(console: "Console") -> Iterator[Notify]:
    from rich.markup import escape
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    bar = Bar(
        TextColumn("{task.fields[share]:>4}"),
        BarColumn(bar_width=_BAR_WIDTH),
        TextColumn("{task.fields[amounts]}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("[dim]{task.fields[current]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        console=console,
        transient=True,
        redirect_stdout=False,  # results must not go to standard error
        expand=True,
    )
    unknown: dict[str, Any] = {"total": None, "share": "", "amounts": "", "left": "", "current": ""}
    task = bar.add_task("", **unknown)
    pace = _Pace()

    def notify(event: Event) -> None:
        match event:
            case Started(step):
                pace.begin()
                console.print(f"{escape(one_line(step))} …")
                bar.reset(task, **unknown)
            case Notice(text):
                console.print(f"pgstow: {escape(one_sentence(text))}")
            case Progress(done, total, _, current):
                bar.update(
                    task,
                    completed=done,
                    total=max(done, total) or None,
                    share=_share(done, total),
                    amounts=_amounts(event),
                    left=pace.left(event),
                    current=escape(one_line(", ".join(current[:3]))),
                )

    with bar:
        yield notify
