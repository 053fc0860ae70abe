"""Mixtures to train with: redactions and scales that are drawn with weights, from ranges."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from redaction_core.errors import UsageError
from redaction_core.redaction import Blur, Box, Freeform, Pixelate, Redaction, Scattered, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER = r"[0-9]*\.?[0-9]+"
_MOST = 0.999  # of an area: a share is below 1
_SHARES = ("box", "freeform", "pixels")


@dataclass(frozen=True, kw_only=True)
class _Range:
    """Redactions of one kind from `low` to `high`."""

    low: Redaction
    high: Redaction

    def at(self, place: float) -> Redaction:
        """Give the redaction at a place of 0 to 1, which may be drawn uniformly.

        Blocks are whole numbers, all as likely; shares of the area lie evenly by their logarithm.
        """
        match self.low, self.high:
            case Pixelate() as low, Pixelate() as high:
                count = high.block - low.block + 1
                return replace(low, block=low.block + min(int(place * count), count - 1))
            case Blur() as low, Blur() as high:
                return replace(low, sigma=low.sigma + place * (high.sigma - low.sigma))
            case Box() as low, Box() as high if low.fraction:
                return replace(low, fraction=_between(low.fraction, high.fraction, place))
            case Freeform() as low, Freeform() as high:
                return replace(low, fraction=_between(low.fraction, high.fraction, place))
            case Scattered() as low, Scattered() as high:
                return replace(low, fraction=_between(low.fraction, high.fraction, place))
        return self.low


@dataclass(frozen=True, kw_only=True)
class RedactionMixture:
    """Redactions, each drawn as often as its weight says.

    Texts are those of `redaction.parse`, where a number may be a range (`pixelate:2-16:nearest`,
    `blur:1-4`, `freeform:0.1-0.4`), `@random` may be left out after a share, and a weight may
    follow (`pixelate:4=0.5`; else 1).
    """

    texts: tuple[str, ...]
    ranges: tuple[_Range, ...]
    weights: tuple[float, ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Self:
        """Read a mixture; raises UsageError in one line."""
        if not texts:
            raise UsageError("no redaction is named")
        pairs = [_weighted("redaction", text) for text in texts]
        return cls(
            texts=tuple(texts),
            ranges=tuple(_redactions(text) for text, _ in pairs),
            weights=tuple(weight for _, weight in pairs),
        )

    @property
    def fixed(self) -> tuple[Redaction, ...]:
        """One redaction a text, ranges at their middle (three digits)."""
        return tuple(_rounded(each.at(0.5)) for each in self.ranges)

    @property
    def extremes(self) -> tuple[Redaction, ...]:
        """Both ends of every range: what a network must be able to undo."""
        return tuple(end for each in self.ranges for end in (each.low, each.high))

    def draw(self, rng: np.random.Generator) -> Redaction:
        """Draw one redaction; takes two numbers of `rng`."""
        which, place = rng.random(2)
        return self.ranges[int(_choose(self.weights, which))].at(float(place))


@dataclass(frozen=True, kw_only=True)
class ScaleMixture:
    """Scales, above 0 and up to 1: one (`0.64`), or a range, even by its logarithm (`0.3-1`).

    A weight may follow, as in `0.64=0.4`.
    """

    texts: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    weights: tuple[float, ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Self:
        """Read a mixture; raises UsageError in one line."""
        if not texts:
            raise UsageError("no scale is named")
        pairs = [_weighted("scale", text) for text in texts]
        return cls(
            texts=tuple(texts),
            ranges=tuple(_scales(text) for text, _ in pairs),
            weights=tuple(weight for _, weight in pairs),
        )

    def draw(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        """Draw `n` scales, float64 (n,); takes 2 n numbers of `rng`."""
        which, places = rng.random((2, n))
        low, high = np.array(self.ranges)[_choose(self.weights, which)].T
        drawn: npt.NDArray[np.float64] = np.minimum(low * (high / low) ** places, high)
        return drawn


def _choose(
    weights: Sequence[float], lots: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Give the number of the part that each lot of 0 to 1 falls into."""
    ends = np.cumsum(weights) / sum(weights)
    # The last end is left out: rounding may put it below 1.
    return np.searchsorted(ends[:-1], lots, side="right")


def _weighted(what: str, text: str) -> tuple[str, float]:
    body, equals, number = text.partition("=")
    if not equals:
        return text, 1.0
    weight = float(number) if re.fullmatch(_NUMBER, number) else 0.0
    if not 0 < weight < math.inf:
        raise UsageError(f"{what} {text!r}: its weight, after =, is a number above 0")
    return body, weight


def _redactions(text: str) -> _Range:
    match = re.fullmatch(rf"(\w+):({_NUMBER})(?:-({_NUMBER}))?([^0-9].*)?", text)
    if match is None:
        found = parse(text)
        return _Range(low=found, high=found)
    kind, first, last = match[1], match[2], match[3] or match[2]
    rest = match[4] or ("@random" if kind in _SHARES else "")
    low, high = (parse(f"{kind}:{number}{rest}") for number in (first, last))
    if isinstance(low, Box) and not low.fraction and match[3]:
        raise UsageError(f"redaction {text!r}: of boxes, only a share of the area may be a range")
    if float(first) > float(last):
        raise UsageError(f"redaction {text!r}: the range ends below its start")
    return _Range(low=low, high=high)


def _scales(text: str) -> tuple[float, float]:
    match = re.fullmatch(rf"({_NUMBER})(?:-({_NUMBER}))?", text)
    low, high = (float(match[1]), float(match[2] or match[1])) if match else (0.0, 0.0)
    if not 0 < low <= high <= 1:
        raise UsageError(
            f"scale {text!r} is not understood: write S or S-S, above 0 and up to 1, like 0.3-1"
        )
    return low, high


def _between(low: float, high: float, place: float) -> float:
    return min(low * math.exp(place * math.log(high / low)), high)


def _rounded(redaction: Redaction) -> Redaction:
    match redaction:
        case Blur(sigma=sigma):
            return replace(redaction, sigma=float(f"{sigma:.3g}"))
        case Box(fraction=fraction) | Freeform(fraction=fraction) | Scattered(fraction=fraction):
            return replace(redaction, fraction=min(float(f"{fraction:.3g}"), _MOST))
    return redaction
