"""Plots of values over time, as SVG for a page. Vega-Lite draws them; ``files/plot.vl.json`` says how."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any, Literal

import vl_convert
from markupsafe import Markup

_SPECIFICATION: Mapping[str, Any] = json.loads(files(__package__).joinpath("files/plot.vl.json").read_text("utf-8"))
_DIGITS = re.compile(r"(\.\d)\d+")
_SIZES = ((1.0, " B"), (1024.0, " KiB"), (1024.0**2, " MiB"), (1024.0**3, " GiB"), (1024.0**4, " TiB"))
_DURATIONS = ((1.0, " s"), (60.0, " min"), (3600.0, " h"))
_NUMBERS = ((1.0, ""),)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a plot."""

    moment: datetime
    value: float
    series: Literal["backup", "proof", "doubt"]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its text alternative."""

    title: str
    words: str
    svg: Markup


def draw(
    title: str,
    words: str,
    points: Sequence[Point],
    since: datetime,
    until: datetime,
    kind: Literal["bytes", "seconds", "number"],
) -> Plot:
    """Return the plot of the points from ``since`` to ``until``. The unit of its axis fits the largest value."""
    largest = max((point.value for point in points), default=0.0)
    units = {"bytes": _SIZES, "seconds": _DURATIONS, "number": _NUMBERS}[kind]
    scale, unit = max((one for one in units if one[0] <= largest), default=units[0])
    values = [
        {"moment": _milliseconds(point.moment), "value": point.value / scale, "series": point.series}
        for point in points
    ]
    parameters = {"unit": unit, "since": _milliseconds(since), "until": _milliseconds(until)}
    specification = {
        **_SPECIFICATION,
        "data": {"values": values},
        "params": [{"name": name, "value": value} for name, value in parameters.items()],
    }
    svg = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
    # Vega writes up to 15 digits. The picture holds numbers and words of Vega alone, so it needs no escaping.
    return Plot(title, words, Markup(_DIGITS.sub(r"\1", svg)))  # noqa: S704


def _milliseconds(moment: datetime) -> float:
    return moment.timestamp() * 1000
