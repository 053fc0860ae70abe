"""How far a result may be off: scales that the network gives, and what makes intervals of them.

A network's own scales are right in relation, not in size: factors by which they are multiplied
are taken from images that it has not learnt from, so that an interval holds as many true values as
it says (split conformal prediction, Papadopoulos et al. 2002; with scaled scores, Lei et al. 2018,
"Distribution-free predictive inference for regression"). Images that the network finds hard have
factors of their own (Bostrom and Johansson 2020, "Mondrian conformal regressors"). All hold for
images like those that they were measured on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from redaction_core.errors import CheckpointError
from redaction_core.redaction import Blur, Pixelate, Redaction, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redaction_core.checkpoints import Model
    from redaction_core.images import Pixels

LEVELS: Final = (0.5, 0.8, 0.9, 0.95)
"""Shares of the true values that intervals are to hold."""
ANY: Final = "any"
"""Stands in a calibration for all redactions that it does not name."""

_BINS: Final = 2048
_LEAST, _MOST = -12.0, 12.0
"""Errors in units of their scales, as powers of two: what lies beyond is counted at the ends."""

_GROUPS: Final = 24
"""Groups of images, half an octave of their mean scale each, up to a scale of 1."""
_LEAST_SHARE: Final = 0.01
"""A group with less of all values counts for its neighbours alone."""
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_LUMA: Final = np.array((0.299, 0.587, 0.114), np.float32)

Floats = npt.NDArray[np.floating[Any]]


class Ratios:
    """Counts of errors in units of their scales; those of several workers may be added.

    In groups of images, by their mean scale.
    """

    size: Final = _GROUPS * (_BINS + 2)

    def __init__(self, counts: npt.NDArray[np.float64] | None = None) -> None:
        """Start from nothing, or from the `counts` of others, float64 (size,)."""
        self.counts = np.zeros(self.size) if counts is None else counts

    def add(self, errors: Floats, scales: Floats) -> None:
        """Count absolute errors of the 8-bit values of an image, 0 to 1, of as many scales > 0.

        Scales that are not finite, of a network that diverged, count for nothing.
        """
        errors, scales = errors.ravel().astype(np.float64), scales.ravel().astype(np.float64)
        if not errors.size or not np.isfinite(scales).all():
            return
        exponents = np.log2(np.maximum(spread(errors) / scales, 2.0**_LEAST))
        places = (exponents - _LEAST) * (_BINS / (_MOST - _LEAST))
        bins = np.minimum(places.astype(np.int64), _BINS - 1)
        group = int(np.clip(_GROUPS + 2 * np.log2(scales.mean()), 0, _GROUPS - 1))
        row = self.counts.reshape(_GROUPS, -1)[group]
        row[:_BINS] += np.bincount(bins, minlength=_BINS)
        row[_BINS:] += errors.sum(), scales.sum()

    def factors(self) -> tuple[Factors, ...]:
        """Give what scales are to be multiplied by, for images of rising scale; () of nothing."""
        rows = self.counts.reshape(_GROUPS, -1)
        # Neighbours count half: groups are small, and borders between them arbitrary.
        pooled = rows.copy()
        pooled[1:] += rows[:-1] / 2
        pooled[:-1] += rows[1:] / 2
        share = rows[:, :_BINS].sum(1) / max(1.0, rows[:, :_BINS].sum())
        found = []
        for row in pooled[share > _LEAST_SHARE]:
            below = np.cumsum(row[:_BINS])
            # The upper end of the bin: rather a little too wide.
            bins = [int(np.searchsorted(below, level * below[-1])) + 1 for level in LEVELS]
            errors, scales = row[_BINS:]
            levels = tuple(2.0 ** (_LEAST + at * (_MOST - _LEAST) / _BINS) for at in bins)
            mean = max(errors, 1e-9) / scales
            found.append(Factors(scale=scales / below[-1], mean=mean, levels=levels))
        return tuple(sorted(found, key=lambda each: each.scale))


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What the network's scales are multiplied by."""

    scale: float
    """Mean of the scales of the images that this was measured on."""
    mean: float
    """For the absolute error that is to be expected."""
    levels: tuple[float, ...]
    """For half the width of the interval of each of `LEVELS`."""

    def of(self, level: float) -> float:
        """Give that of one level. ValueError: none of `LEVELS`."""
        return self.levels[LEVELS.index(level)]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The factors of one model, by the text of the redaction that they were measured on."""

    factors: Mapping[str, Sequence[Factors]]
    """Of images of rising scale; with `ANY` among the redactions."""

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Calibration | None:
        """Read what a model's config says; None where it says nothing.

        Raises ValueError, TypeError, LookupError where it is damaged.
        """
        told = config.get("calibration")
        if not told:
            return None
        redactions: dict[str, Any] = told["redactions"]
        if told["levels"] != list(LEVELS) or not all(redactions.values()):
            raise ValueError("calibration of other levels, or of nothing")
        factors = {
            text: tuple(
                Factors(
                    scale=_positive(each["scale"]),
                    mean=_positive(each["mean"]),
                    levels=tuple(map(_positive, _four(each["levels"]))),
                )
                for each in rows
            )
            for text, rows in redactions.items()
        }
        factors[ANY]
        return cls(factors=factors)

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "levels": list(LEVELS),
            "redactions": {
                text: [
                    {
                        "scale": _short(each.scale),
                        "mean": _short(each.mean),
                        "levels": [_short(one) for one in each.levels],
                    }
                    for each in rows
                ]
                for text, rows in sorted(self.factors.items())
            },
        }

    def of(self, how: Redaction | None, scale: float) -> Factors:
        """Give the factors for an image of this mean scale.

        Between scales, and between strengths of a redaction, that were measured they are
        interpolated, over logarithms; beyond them they stay as they are.

        Args:
            how: None: hidden pixels of which no more is known.
            scale: mean of the network's scales, over the pixels that it estimates.

        """
        exact = self.factors.get(str(how))
        if exact is not None:
            return _at(exact, scale)
        if not isinstance(how, Pixelate | Blur):
            return _at(self.factors[ANY], scale)
        alike = {
            _strength(each): _at(self.factors[str(each)], scale)
            for each in map(parse, self.factors.keys() - {ANY})
            if type(each) is type(how) and _nearest(each) == _nearest(how)
        }
        if not alike:
            return _at(self.factors[ANY], scale)
        known = sorted(alike)
        return _between([alike[at] for at in known], known, _strength(how), scale)


def _at(rows: Sequence[Factors], scale: float) -> Factors:
    return _between(rows, [math.log(each.scale) for each in rows], math.log(scale), scale)


def _between(
    rows: Sequence[Factors], places: Sequence[float], place: float, scale: float
) -> Factors:
    columns = zip(*((each.mean, *each.levels) for each in rows), strict=True)
    mean, *levels = (math.exp(np.interp(place, places, np.log(column))) for column in columns)
    return Factors(scale=scale, mean=mean, levels=tuple(levels))


def calibration_of(model: Model) -> Calibration | None:
    """Read the calibration of a model; None where it has none.

    Raises CheckpointError where it is damaged.
    """
    try:
        return Calibration.of_config(model.config)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the calibration of {model.name} is damaged: {error}") from error


def calibrate(counts: Mapping[str, Ratios]) -> Calibration | None:
    """Make a calibration of what was counted, redaction by redaction; None of nothing."""
    found = {text: each.factors() for text, each in counts.items()}
    pooled = Ratios(np.sum([each.counts for each in counts.values()], axis=0)).factors()
    if not pooled:
        return None
    return Calibration(factors={text: each for text, each in found.items() if each} | {ANY: pooled})


def errors_and_scales(
    result: Pixels, original: Pixels, scale: Floats, hidden: npt.NDArray[np.bool_] | None
) -> tuple[Floats, Floats]:
    """Give absolute errors, 0 to 1, and the scale of each, as flat arrays of one length.

    Args:
        result: uint8 HxW or HxWx3; `original` as well.
        original: the clean image.
        scale: float HxW, as a network gave it.
        hidden: bool HxW: there alone, in every colour. None: everywhere; of colours, the luma,
            which is what the network estimates there.

    """
    errors = np.abs(result.astype(np.float32) - original.astype(np.float32)) / 255
    if hidden is None:
        if errors.ndim > scale.ndim:
            errors = np.abs((result.astype(np.float32) - original) @ _LUMA) / 255
        return errors.ravel(), scale.ravel()
    errors, scales = errors[hidden], scale[hidden]
    if errors.ndim > 1:
        scales = np.repeat(scales, errors.shape[1])
    return errors.ravel(), scales


def spread(errors: Floats) -> Floats:
    """Spread errors of 8-bit values, 0 to 1, evenly over what was rounded to them: float64 (N,).

    A value stands for a whole level. Without this, of good estimates most errors are 0, and hardly
    a width of intervals holds half of them (Czado, Gneiting and Held 2009, "Predictive model
    assessment for count data"). The places in the level follow the golden section: as good as
    chance, and the same each time.
    """
    places = np.arange(errors.size) * _GOLDEN % 1 - 0.5
    return np.asarray(np.abs(errors.ravel() + places / 255))


def interval_score(errors: Floats, half_widths: Floats, level: float) -> float:
    """Mean width of intervals, and what misses them: the less, the better.

    Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", for
    central intervals around the estimates.
    """
    beyond = np.maximum(errors - half_widths, 0.0)
    return float((2 * half_widths + 2 / (1 - level) * beyond).mean())


def _nearest(how: Redaction) -> bool:
    return isinstance(how, Pixelate) and how.nearest


def _strength(how: Redaction) -> float:
    return math.log2(how.block if isinstance(how, Pixelate) else getattr(how, "sigma", 1.0))


def _positive(value: float) -> float:
    if not 0 < float(value) < math.inf:
        raise ValueError(f"{value} is no factor")
    return float(value)


def _four(levels: Sequence[float]) -> Sequence[float]:
    if len(levels) != len(LEVELS):
        raise ValueError(f"{len(levels)} factors for {len(LEVELS)} levels")
    return levels


def _short(value: float) -> float:
    return float(f"{value:.5g}")
