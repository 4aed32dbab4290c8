"""Make the page: the template in ``files/`` and what fills it. The page's policy forbids every script and style but its own."""

import base64
import hashlib
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.audit.html import nights
from pipeline.audit.html.view import LISTED, finding_groups, plots, tiles, verdict, view_of
from pipeline.audit.report import AuditReport, NightState
from pipeline.counting import counted
from pipeline.words import format_duration, format_size, one_line

_BUFFERED = 200
"""Pieces of the template that come as one string."""
_OPEN = 5
"""Databases whose sections are open at first. The sections of larger fleets are closed."""


def render(report: AuditReport) -> Iterator[str]:
    """Yield the report as one HTML document, part by part: a long one need not be in memory as a whole.

    All text of the report is escaped, and control characters and halves of characters are replaced. So UTF-8 can encode each part.
    """
    views = [view_of(database, number, report.made_at) for number, database in enumerate(report.databases, 1)]
    style, script = _file("report.css"), _file("report.js")
    stream = (
        _environment()
        .get_template("report.html.jinja")
        .stream(
            report=report,
            views=views,
            worst_first=sorted(views, key=lambda view: view.rank),
            groups=list(finding_groups(report.findings)),
            anchors={(view.audit.cluster, view.audit.database): view.anchor for view in views},
            verdict=verdict(report),
            tiles=list(tiles(report, views)),
            tallies=nights.tallies(report.databases, report.since),
            plots=partial(plots, report=report),
            opened=len(views) <= _OPEN,
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            policy=f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
            "base-uri 'none'; form-action 'none'",
        )
    )
    stream.enable_buffering(_BUFFERED)
    yield from stream


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "files"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_plain,
    )
    environment.filters |= {"size": format_size, "duration": format_duration, "counted": counted, "moment": _moment}
    environment.globals |= {"nights": nights, "NightState": NightState, "LISTED": LISTED}
    return environment


def _plain(value: object) -> object:
    """Replace the control characters of text. Markup is the page's own, so it stays as it is."""
    return one_line(value) if type(value) is str else value


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _file(name: str) -> str:
    return files(__package__).joinpath("files", name).read_text("utf-8")


def _digest(text: str) -> str:
    """Return the digest of a style or a script as a Content Security Policy writes it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
