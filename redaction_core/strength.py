"""How strong redactions are, by what is recovered of images: means, intervals, the weakest enough.

What is recovered is always a lower bound: this attacker got so far, another may get further.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from redaction_core.errors import UsageError
from redaction_core.redaction import Blur, Box, Freeform, Pixelate, Redaction, Scattered, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Floats = npt.NDArray[np.float64]

_DRAWS: Final = 2000
_BLOCKS: Final = 2000
"""Images beyond so many are drawn in bundles: the interval hardly changes, the time does."""
_CONFIDENCE: Final = 0.95
_OF_PIXELS: Final = "box of so many pixels"
_SHARED: Final = ("box", "freeform", "pixels")


def parse_grid(texts: Sequence[str]) -> tuple[Redaction, ...]:
    """Read redactions, a text one or several: `pixelate:4`, `blur:1,2,4`, `box:0.05,0.25@random`.

    `@random` may be left out after shares. In the order of family and strength, none twice. Raises
    UsageError for a text that is none.
    """
    found: dict[str, Redaction] = {}
    for text in texts:
        match = re.fullmatch(r"([a-z]+):([^:@]*)((?:[:@].*)?)", text)
        kind, values, rest = match.groups() if match else ("", text, "")
        for value in values.split(","):
            tail = rest
            if kind in _SHARED and not rest and "x" not in value:
                tail = "@random"
            redaction = parse(f"{kind}:{value}{tail}" if kind else text)
            found[str(redaction)] = redaction
    if not found:
        raise UsageError("--redactions names no redaction")
    return tuple(sorted(found.values(), key=lambda each: (family(each), strength(each))))


def family(redaction: Redaction) -> str:
    """Name what redactions that differ in strength alone have in common."""
    match redaction:
        case Pixelate(nearest=nearest):
            return "pixelate, one pixel a block" if nearest else "pixelate, mean of each block"
        case Blur():
            return "blur"
        case Box(random=random, fraction=fraction):
            where = "anywhere" if random else "in the middle"
            return f"box, {where}" if fraction else f"{_OF_PIXELS}, {where}"
        case Freeform():
            return "strokes"
        case Scattered():
            return "single pixels"


def unit_of(name: str) -> str:
    """Say what the strength of a family is counted in."""
    if name.startswith("pixelate"):
        return "pixels a side of a block"
    if name.startswith(_OF_PIXELS):
        return "pixels of the box"
    return "standard deviation in pixels" if name == "blur" else "share of the area"


def strength(redaction: Redaction) -> float:
    """Give the number by which redactions of one family are ordered."""
    match redaction:
        case Pixelate(block=block):
            return float(block)
        case Blur(sigma=sigma):
            return sigma
        case Box(fraction=fraction, width=width, height=height):
            return fraction or float(width * height)
        case Freeform(fraction=fraction) | Scattered(fraction=fraction):
            return fraction


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over images with its interval of 95 %."""

    value: float
    low: float
    high: float
    images: int


def mean_of(values: Floats, units: Sequence[str | None]) -> Mean | None:
    """Give the mean of what is known (not NaN), with a bootstrap interval; None of nothing.

    Drawn with replacement are units, not images (Efron and Tibshirani 1993, the percentile
    interval): pictures of one person are alike, and many of them say less than as many people. An
    image without a unit is one of its own. The same values give the same interval.
    """
    known = np.isfinite(values)
    if not known.any():
        return None
    sums, counts = _by_unit(
        values[known], [unit for unit, is_ in zip(units, known, strict=True) if is_]
    )
    rng = np.random.default_rng(0)
    means = np.empty(_DRAWS)
    for draw in range(_DRAWS):
        drawn = rng.integers(0, len(sums), len(sums))
        means[draw] = sums[drawn].sum() / counts[drawn].sum()
    tail = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(means, (tail, 100 - tail))
    return Mean(
        value=float(values[known].mean()),
        low=float(low),
        high=float(high),
        images=int(known.sum()),
    )


def _by_unit(values: Floats, units: Sequence[str | None]) -> tuple[Floats, Floats]:
    """Add up the values of each unit, and count them."""
    numbers: defaultdict[object, int] = defaultdict(lambda: len(numbers))
    at = np.array([numbers[(place,) if unit is None else unit] for place, unit in enumerate(units)])
    sums, counts = np.bincount(at, values), np.bincount(at)
    bundles = np.arange(len(sums)) % _BLOCKS
    return (
        np.bincount(bundles, sums).astype(np.float64),
        np.bincount(bundles, counts).astype(np.float64),
    )


@dataclass(frozen=True, kw_only=True)
class Enough:
    """The answer for one family: which of its redactions keeps what is recovered below a share."""

    family: str
    weakest: str | None
    """None: none of those that were tried."""
    strongest_tried: str


def weakest_enough(
    recovered: Iterable[tuple[Redaction, Mean | None]], target: float
) -> list[Enough]:
    """Find, family by family, the weakest redaction under which less than `target` comes back.

    The whole interval must lie below the target, also of all stronger ones that were tried.
    """
    ordered = sorted(recovered, key=lambda pair: (family(pair[0]), strength(pair[0])))
    answers = []
    for name, pairs in groupby(ordered, key=lambda pair: family(pair[0])):
        weakest, strongest = None, ""
        for redaction, mean in pairs:
            strongest = str(redaction)
            if mean is None or mean.high >= target:
                weakest = None
            elif weakest is None:
                weakest = strongest
        answers.append(Enough(family=name, weakest=weakest, strongest_tried=strongest))
    return answers
