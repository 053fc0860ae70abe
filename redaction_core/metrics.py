"""How far an estimate is from the truth, image by image, on the 0-1 scale."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

SSIM_SIDE = 11
"""Side of the window of SSIM, in pixels; images with a shorter side have none."""

_SIGMA = 1.5
_RADIUS = SSIM_SIDE // 2
_C1 = 0.01**2
_C2 = 0.03**2
_LEVELS = np.arange(256)
# Memory does not grow with the image, and what lies between stays in the processor's cache.
_STRIP_ROWS = 256
_TILE = 256


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors of one image, on the 0-1 scale, over all channels together."""

    mae: float
    mse: float
    psnr: float | None
    """Decibels; none where the error is 0."""
    ssim: float | None
    """Mean structural similarity, -1 to 1; none below 11 pixels a side."""
    error_p50: float
    """The smallest level that at least half of the absolute errors do not exceed."""
    error_p95: float
    error_p99: float


def measure(
    estimate: npt.NDArray[np.uint8],
    original: npt.NDArray[np.uint8],
    hidden: npt.NDArray[np.bool_] | None = None,
) -> Errors:
    """Compare two uint8 images of one shape, HxW or HxWx3: everywhere, or where `hidden` (HxW).

    SSIM as by Wang et al. 2004 (Gaussian window of 11x11, sigma 1.5, K1 0.01, K2 0.03), channel by
    channel: the mean over the windows that lie inside the image or, with `hidden`, over those
    centred on hidden pixels, the image continued by reflection. Raises ValueError where shapes
    differ or nothing is hidden.
    """
    _check_shapes(estimate, original, hidden)
    counts = _histogram(estimate, original, hidden)
    total = int(counts.sum())
    if total == 0:
        raise ValueError("nothing is hidden")
    mse = int(counts @ _LEVELS**2) / total / 255**2
    ranks = [-(-total * percent // 100) for percent in (50, 95, 99)]
    p50, p95, p99 = (int(level) / 255 for level in np.searchsorted(counts.cumsum(), ranks))
    return Errors(
        mae=int(counts @ _LEVELS) / total / 255,
        mse=mse,
        psnr=psnr(mse),
        ssim=_mean_ssim(estimate, original, hidden),
        error_p50=p50,
        error_p95=p95,
        error_p99=p99,
    )


def mean_errors(
    estimate: npt.NDArray[np.uint8],
    original: npt.NDArray[np.uint8],
    hidden: npt.NDArray[np.bool_] | None = None,
) -> tuple[float, float]:
    """Give the MAE and the MSE alone, exactly those of `measure`, in a hundredth of its time.

    Raises ValueError where shapes differ or nothing is hidden.
    """
    _check_shapes(estimate, original, hidden)
    mask = None if hidden is None else np.ascontiguousarray(hidden).view(np.uint8)
    pixels = original.shape[0] * original.shape[1] if mask is None else cv2.countNonZero(mask)
    total = pixels * (original.size // (original.shape[0] * original.shape[1]))
    if total == 0:
        raise ValueError("nothing is hidden")
    # OpenCV takes a root and squares it again, so the whole number is off by a trace.
    absolute = round(cv2.norm(estimate, original, cv2.NORM_L1, mask))
    squared = round(cv2.norm(estimate, original, cv2.NORM_L2SQR, mask))
    return absolute / total / 255, squared / total / 255**2


def psnr(mse: float) -> float | None:
    """Peak signal-to-noise ratio in decibels; none where the error is 0."""
    return 10 * math.log10(1 / mse) if mse else None


def mean_signed_chroma(rgb: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Give the mean Cb and Cr (ITU-R BT.601) of a uint8 image, -0.5 to 0.5: 0 where it is gray.

    Takes HxWx3, or HxW, which has none.
    """
    if rgb.ndim == 2:  # noqa: PLR2004 - rows and columns
        return 0.0, 0.0
    red, green, blue = (value / 255 for value in cv2.mean(rgb)[:3])
    # Blue minus luma and red minus luma, written so that gray gives exactly 0.
    return (
        (0.299 * (blue - red) + 0.587 * (blue - green)) / 1.772,
        (0.587 * (red - green) + 0.114 * (red - blue)) / 1.402,
    )


def _check_shapes(
    estimate: npt.NDArray[np.uint8],
    original: npt.NDArray[np.uint8],
    hidden: npt.NDArray[np.bool_] | None,
) -> None:
    if estimate.shape != original.shape:
        raise ValueError(f"shapes differ: {estimate.shape} and {original.shape}")
    if hidden is not None and hidden.shape != original.shape[:2]:
        raise ValueError(f"a mask of {hidden.shape} for an image of {original.shape}")


def _histogram(
    estimate: npt.NDArray[np.uint8],
    original: npt.NDArray[np.uint8],
    hidden: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.int64]:
    """Count the absolute differences by level, 0 to 255: all errors of 8-bit images follow."""
    counts = np.zeros(256, np.int64)
    for top in range(0, len(original), _STRIP_ROWS):
        strip = slice(top, top + _STRIP_ROWS)
        difference = cv2.absdiff(estimate[strip], original[strip])
        if hidden is not None:
            difference = difference[hidden[strip]]
        if difference.size:
            flat = difference.reshape(1, -1)  # OpenCV is slow with short rows
            counts += cv2.calcHist([flat], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def _mean_ssim(
    estimate: npt.NDArray[np.uint8],
    original: npt.NDArray[np.uint8],
    hidden: npt.NDArray[np.bool_] | None,
) -> float | None:
    height, width = original.shape[:2]
    if min(height, width) < SSIM_SIDE:
        return None
    total, windows = 0.0, 0
    for rows, columns in _regions(original.shape, hidden):
        reach = _reach(rows, height), _reach(columns, width)
        similarity = _ssim_map(estimate[reach], original[reach])
        values = similarity[
            rows.start - reach[0].start : rows.stop - reach[0].start,
            columns.start - reach[1].start : columns.stop - reach[1].start,
        ]
        if hidden is not None:
            values = values[hidden[rows, columns]]
        total += float(values.sum(dtype=np.float64))
        windows += values.size
    return total / windows


def _regions(
    shape: tuple[int, ...], hidden: npt.NDArray[np.bool_] | None
) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns that hold all centres of the windows asked for, tile by tile."""
    height, width = shape[:2]
    # Windows inside the image have their centres in this rectangle.
    edge = _RADIUS if hidden is None else 0
    for top, left in itertools.product(
        range(edge, height - edge, _TILE), range(edge, width - edge, _TILE)
    ):
        rows = slice(top, min(top + _TILE, height - edge))
        columns = slice(left, min(left + _TILE, width - edge))
        if hidden is None:
            yield rows, columns
            continue
        tile = hidden[rows, columns]
        down, across = (np.flatnonzero(tile.any(axis=axis)) for axis in (1, 0))
        if down.size:
            yield (
                slice(top + int(down[0]), top + int(down[-1]) + 1),
                slice(left + int(across[0]), left + int(across[-1]) + 1),
            )


def _reach(centres: slice, side: int) -> slice:
    """Widen to all that the windows around these centres see."""
    return slice(max(0, centres.start - _RADIUS), min(side, centres.stop + _RADIUS))


def _ssim_map(
    estimate: npt.NDArray[np.uint8], original: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Give the structural similarity around each pixel (Wang et al. 2004, equation 13)."""
    # Moved towards 0, so that the variances, which are differences, lose little to float32.
    level = round(cv2.mean(original)[0])
    first, second = _moved(estimate, level), _moved(original, level)
    mean_1, mean_2 = _blur(first), _blur(second)
    squares = mean_1 * mean_1 + mean_2 * mean_2
    product = mean_1 * mean_2
    covariance = _blur(first * second)
    covariance -= product
    variances = _blur(first * first + second * second)
    variances -= squares
    # What moving took from twice the product of the means, and from the sum of their squares.
    shift = mean_1 + mean_2
    shift += level / 255
    shift *= 2 * level / 255
    shift += _C1
    # In place, as fresh memory costs more time than arithmetic.
    covariance *= 2
    covariance += _C2
    product *= 2
    product += shift
    product *= covariance
    variances += _C2
    squares += shift
    squares *= variances
    product /= squares
    return product


def _moved(image: npt.NDArray[np.uint8], level: int) -> npt.NDArray[np.float32]:
    """Give the image on the 0-1 scale, less a level of 0 to 255."""
    moved = image.astype(np.float32)
    moved -= level
    moved /= 255
    return moved


def _blur(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    blurred = cv2.GaussianBlur(image, (SSIM_SIDE, SSIM_SIDE), _SIGMA, borderType=cv2.BORDER_REFLECT)
    return blurred.astype(np.float32, copy=False)
