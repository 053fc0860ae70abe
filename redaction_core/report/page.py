"""One self-contained HTML page of a run: nothing is loaded from anywhere else.

Names and details come from strangers: Jinja escapes them in the page, and what the script reads is
JSON in which no markup can begin.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redaction_core.report.distributions import Distribution
    from redaction_core.report.pictures import Picture


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the table of images."""

    name: str
    title: str
    text: bool = False
    digits: int = 0
    """Behind the point."""


COLUMNS: Final = (
    Column(name="key", title="image", text=True),
    Column(name="status", title="status", text=True),
    Column(name="width", title="width"),
    Column(name="height", title="height"),
    Column(name="block_size", title="block"),
    Column(name="hidden_fraction", title="hidden", digits=3),
    Column(name="recovered", title="recovered", digits=3),
    Column(name="mae", title="MAE", digits=4),
    Column(name="bicubic_mae", title="bicubic MAE", digits=4),
    Column(name="baseline_mae", title="redacted MAE", digits=4),
    Column(name="psnr", title="PSNR", digits=2),
    Column(name="ssim", title="SSIM", digits=3),
    Column(name="consistency_mae", title="consistency", digits=4),
    Column(name="expected_mae", title="expected MAE", digits=4),
    Column(name="interval_p90", title="± 90 %", digits=4),
    Column(name="coverage_p90", title="in it", digits=3),
    Column(name="failure", title="failure", text=True),
    Column(name="detail", title="detail", text=True),
)
"""Of `schemas.METRICS`; those without any value are left out."""

LABELS: Final = {
    "recovered": "Recovered, the share of the damage that was undone",
    "mae": "Mean absolute error, on the 0-1 scale",
    "psnr": "PSNR in decibels",
    "ssim": "SSIM",
    "consistency_mae": "Consistency: the result redacted again, against what was seen",
    "expected_mae": "Mean absolute error that is to be expected, by the network's own word",
}
_LEGEND: Final = (
    "Errors go from white (none) to red (0.2 of the scale or more), what was recovered from white "
    "to blue, half the width of 90 % intervals from white to green."
)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image that is shown."""

    name: str
    figures: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a report says."""

    title: str
    subtitle: str
    note: str
    """What everybody who opens it should know."""
    tiles: Sequence[tuple[str, str]]
    failures: Sequence[tuple[str, int]]
    distributions: Sequence[Distribution]
    ranked_by: str
    examples: Sequence[tuple[str, Sequence[Example]]]
    """By kind."""
    rows: Sequence[Mapping[str, Any]]
    """Of `schemas.METRICS`, those that are listed."""
    inputs: int
    """Rows in all."""


def render(page: Page) -> bytes:
    """Write the page."""
    columns = [
        column
        for column in COLUMNS
        if any(row[column.name] is not None for row in page.rows) or column.name == "key"
    ]
    values = [[_plain(row[column.name], column) for row in page.rows] for column in columns]
    heads = [
        {"name": column.name, "text": column.text, "digits": column.digits} for column in columns
    ]
    return render_template(
        "reconstruction.html.j2",
        title=page.title,
        subtitle=page.subtitle,
        note=page.note,
        tiles=page.tiles,
        failures=page.failures,
        distributions=page.distributions,
        ranked_by=page.ranked_by,
        examples=[(kind, images) for kind, images in page.examples if images],
        legend=_LEGEND,
        columns=columns,
        listed=len(page.rows),
        left_out=page.inputs - len(page.rows),
        rows=embedded({"columns": heads, "values": values}),
        js=asset("table.js"),
    )


def render_template(name: str, **content: object) -> bytes:
    """Write a page from one of this package's templates."""
    return _environment().get_template(name).render(css=asset("page.css"), **content).encode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("redaction_core.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"label": LABELS.__getitem__, "number": number, "place": _place}
    return environment


def number(value: float, name: str) -> str:
    """Write a value of a measure for people."""
    digits = next(column.digits for column in COLUMNS if column.name == name)
    return f"{value:.{digits}f}"


def _place(spread: Distribution) -> float:
    """Say where the median stands in a chart of 400 units."""
    share = (spread.quartiles[1] - spread.low) / (spread.high - spread.low)
    return 400 * min(1.0, max(0.0, share))


def _plain(value: Any, column: Column) -> Any:  # noqa: ANN401 - a value of any column
    # A digit more than is shown: a million of them should stay small.
    if isinstance(value, float):
        return round(value, column.digits + 1) if math.isfinite(value) else None
    return value


def embedded(content: Mapping[str, Any]) -> Markup:
    """Write JSON in which neither an element nor a comment can begin or end."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 - made safe just here


def asset(name: str) -> Markup:
    """Read a script or a style sheet of this package, as it goes into a page."""
    return Markup(files("redaction_core.report").joinpath(name).read_text())  # noqa: S704 - our own
