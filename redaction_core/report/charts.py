"""Lines of a chart as SVG takes them: what is recovered against strength."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redaction_core.redaction import parse
from redaction_core.strength import strength, unit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redaction_core.strength import Mean

_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 376.0, 12.0, 180.0
_STEP: Final = 0.25
"""Between lines of the grid."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label of an axis."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line with its band; points are those of SVG."""

    name: str
    line: str
    band: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """A chart of 400 by 220."""

    caption: str
    unit: str
    target: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]


def line_chart(
    family: str, redactions: Sequence[str], curves: dict[str, Sequence[Mean | None]], target: float
) -> LineChart:
    """Draw curves by name over redactions of one family, which stand at equal distances."""
    known = [mean for means in curves.values() for mean in means if mean is not None]
    low = _STEP * math.floor(max(-1.0, min([0.0, *(mean.low for mean in known)])) / _STEP)

    def y(value: float) -> float:
        value = max(value, low)
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - low) / (1 - low), 1)

    gap = (_RIGHT - _LEFT) / max(1, len(redactions) - 1)
    x = [round(_LEFT + gap * place, 1) for place in range(len(redactions))]
    steps = round((1 - low) / _STEP)
    drawn = []
    for name, means in curves.items():
        there = [(at, mean) for at, mean in zip(x, means, strict=True) if mean is not None]
        if there:
            above = [f"{at},{y(mean.high)}" for at, mean in there]
            below = [f"{at},{y(mean.low)}" for at, mean in reversed(there)]
            points = tuple((at, y(mean.value)) for at, mean in there)
            drawn.append(
                Curve(
                    name=name,
                    line=" ".join(f"{at},{height}" for at, height in points),
                    band=" ".join(above + below),
                    points=points,
                )
            )
    return LineChart(
        caption=family,
        unit=unit_of(family),
        target=y(target),
        x_ticks=tuple(
            Tick(at=at, text=f"{strength(parse(text)):g}")
            for at, text in zip(x, redactions, strict=True)
        ),
        y_ticks=tuple(
            Tick(at=y(low + _STEP * step), text=f"{low + _STEP * step:.0%}")
            for step in range(steps + 1)
        ),
        curves=tuple(drawn),
    )
