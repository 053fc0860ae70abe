"""How a measure is spread over the images: a histogram, and where its middle lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_BARS: Final = 40
_TAIL: Final = 0.5
"""Percent of the values that may lie beyond either end, in the outermost bars."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One measure over all images that have it."""

    name: str
    """Column of `schemas.METRICS`."""
    count: int
    mean: float
    quartiles: tuple[float, float, float]
    low: float
    """Where the first bar begins; whatever is lower counts for it."""
    high: float
    """Where the last bar ends; whatever is higher counts for it."""
    bars: tuple[int, ...]
    """Images in each of the bars, which are equally wide."""


def distribution(name: str, values: npt.NDArray[np.floating]) -> Distribution | None:
    """Count values, which may be NaN where an image has none; None where no image has one."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not known.size:
        return None
    low, high = (float(end) for end in np.percentile(known, (_TAIL, 100 - _TAIL)))
    if low == high:  # one value alone, or nearly: a bar in the middle
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    bars, _ = np.histogram(known.clip(low, high), _BARS, (low, high))
    first, middle, third = (float(value) for value in np.percentile(known, (25, 50, 75)))
    return Distribution(
        name=name,
        count=known.size,
        mean=float(known.mean()),
        quartiles=(first, middle, third),
        low=low,
        high=high,
        bars=tuple(bars.tolist()),
    )
