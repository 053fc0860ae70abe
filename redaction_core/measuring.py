"""What the row of one restored image says: errors, intervals, whether it explains its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from redaction_core.comparison import compare
from redaction_core.inference import pixels_of, planes_of
from redaction_core.metrics import mean_errors
from redaction_core.redaction import Pixelate, redact
from redaction_core.uncertainty import errors_and_scales, spread

if TYPE_CHECKING:
    import numpy.typing as npt

    from redaction_core.images import Pixels
    from redaction_core.loading import Work
    from redaction_core.uncertainty import Factors, Floats

CONSISTENT: Final = 0.01
"""Mean error of a result, redacted again, against its input, up to which it explains the input.

Rounding to 8 bits leaves a tenth of it, JPEG of good quality after the redaction a half.
"""
LEVEL: Final = 0.9
"""Share of the true values that intervals of a row and a map hold."""


def measure(work: Work, result: Pixels, scale: Floats | None, factors: Factors | None) -> None:
    """Fill the row of a work.

    Args:
        work: its pixels are what the network got; with its original, where that is known.
        result: uint8, shaped as the pixels.
        scale: float HxW, as the network gave it.
        factors: what makes intervals of the scale, for its mean over the estimated pixels.

    """
    row, how, original = work.row, work.how, work.original
    mosaic = work.mosaic if work.mosaic and not work.mosaic.plain else None
    counted = work.counted
    if isinstance(how, Pixelate):
        row["block_size"] = how.block
    if counted is not None:
        row["hidden_fraction"] = float(counted.mean())
    consistency = _consistency(work, result)
    row["consistency_mae"], row["consistent"] = consistency, consistency <= CONSISTENT
    if consistency > CONSISTENT:
        work.notes.append("the result does not explain its input")
    if scale is not None and factors is not None:
        row["expected_mae"] = factors.scale * factors.mean
        row["interval_p90"] = factors.scale * factors.of(LEVEL)
    if original is None:
        return
    found = compare(result, work.pixels, original, how=how, hidden=work.hidden, mosaic=mosaic)
    row |= {name: value for name, value in found.items() if name in row}
    if scale is not None and factors is not None:
        errors, scales = errors_and_scales(result, original, scale, counted)
        row["coverage_p90"] = float((spread(errors) <= scales * factors.of(LEVEL)).mean())


def mean_scale(scale: Floats, counted: npt.NDArray[np.bool_] | None) -> float:
    """Give the mean of float HxW scales, over the `counted` pixels where those are not all."""
    return float((scale if counted is None else scale[counted]).mean(dtype=np.float64))


def interval_map(
    scale: Floats, factors: Factors, hidden: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.uint8]:
    """Draw half the width of each pixel's interval in levels of 8 bits, rounded up: uint8 HxW.

    What is known, where some pixels are `hidden` or pixelated, is 0.
    """
    widths = np.ceil(scale.astype(np.float32) * (255 * factors.of(LEVEL)))
    if hidden is not None:
        widths = np.where(hidden, widths, 0)
    return np.asarray(np.minimum(widths, 255), np.uint8)


def _consistency(work: Work, result: Pixels) -> float:
    mosaic = work.mosaic
    if mosaic is not None and not mosaic.plain:
        if isinstance(work.how, Pixelate) and work.how.nearest:
            off = np.abs(mosaic.samples(result).astype(np.float32) - mosaic.samples(work.pixels))
            region = None if mosaic.region is None else mosaic.samples(mosaic.region)
        else:
            off = np.abs(mosaic.means(result) - mosaic.means(work.pixels))
            region = mosaic.region
        off = off if region is None else off[region]
        return float(off.mean(dtype=np.float64)) / 255 if off.size else 0.0
    if work.how is not None:
        again = redact(work.how, planes_of(result)[None], [work.item.key]).images_u8[0]
        return mean_errors(pixels_of(again), work.pixels)[0]
    known = None if work.hidden is None else ~work.hidden
    return mean_errors(result, work.pixels, known)[0]
