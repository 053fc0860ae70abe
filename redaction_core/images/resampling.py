"""Bicubic resizing with antialiasing: Pillow's own pixels, in half the time, on any machine.

The sums are done by matrix products in float32. Where rounding could go either way within their
error bound, about one pixel in a thousand, they are done again in integers, as Pillow does them.
So the result hangs on no machine's order of summation. May be called from many threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from redaction_core.images.decoding import Pixels

REDUCING_GAP = 32
"""A side of at least 64 times the result's is first averaged over whole groups of pixels."""

_BITS = 22
_BAND = 16
# A larger product would wake the threads of OpenBLAS, which cost more than they save here.
_MAX_PRODUCTS = 2**18
_MAX_SUMS = 2**17


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize HxW or HxWx3 to `height` x `width` (x3): contiguous, and new unless nothing changes.

    Bit for bit what Pillow gives for one side after the other, the width first:
    `image.resize((width, image.height), BICUBIC, reducing_gap=REDUCING_GAP)`, then
    `.resize((width, height), BICUBIC, reducing_gap=REDUCING_GAP)`. So does Pillow itself in one
    call, but for tall pictures, where newer versions take the height first.

    That is Keys' cubic kernel (1981) with a = -0.5, widened by the ratio where a side shrinks; the
    weights of a pixel add up to 1 and are rounded to multiples of 2**-22; after each side the
    values are rounded half up and clipped to 0 to 255.
    """
    old_height, old_width = pixels.shape[:2]
    if (old_width, old_height) == (width, height):
        return np.ascontiguousarray(pixels)
    if pixels.ndim == 2:  # noqa: PLR2004 - rows and columns
        return _plane(pixels, width, height)
    planes = [np.asarray(plane, np.uint8) for plane in cv2.split(np.ascontiguousarray(pixels))]
    return np.asarray(cv2.merge([_plane(plane, width, height) for plane in planes]), np.uint8)


def _plane(pixels: Pixels, width: int, height: int) -> Pixels:
    return _transposed(_along_rows(_transposed(_along_rows(pixels, width)), height))


def _transposed(plane: Pixels) -> Pixels:
    return np.asarray(cv2.transpose(plane), np.uint8)


def _along_rows(plane: Pixels, size: int) -> Pixels:
    """Resize every row to `size` pixels."""
    rows, old_size = plane.shape
    if old_size == size:
        return np.ascontiguousarray(plane)
    if old_size >= 2 * REDUCING_GAP * size:
        picture = Image.fromarray(plane)
        bicubic = Image.Resampling.BICUBIC
        return np.array(picture.resize((size, rows), bicubic, reducing_gap=REDUCING_GAP))
    kernel = _kernel(old_size, size)
    result = np.empty((rows, size), np.uint8)
    for top in range(0, rows, kernel.step):
        strip = plane[top : top + kernel.step]
        values = strip.astype(np.float32)
        sums = np.empty((len(strip), size), np.float32)
        for band in kernel.bands:
            np.matmul(
                values[:, band.first : band.first + len(band.weights)],
                band.weights,
                out=sums[:, band.out : band.out + band.weights.shape[1]],
            )
        low, high = (
            cv2.addWeighted(sums, 1, sums, 0, shift, dtype=cv2.CV_8U)
            for shift in (-kernel.error, kernel.error)
        )
        doubtful = np.divmod(np.flatnonzero(low != high), size)
        low[doubtful] = kernel.exact(strip, *doubtful)
        result[top : top + kernel.step] = low
    return result


@dataclass(frozen=True)
class _Band:
    """What gives up to `_BAND` neighbouring pixels of a row."""

    out: int
    """The first pixel of the result."""
    first: int
    """The first pixel of the source that counts."""
    weights: npt.NDArray[np.float32]
    """Source pixels x pixels of the result."""


@dataclass(frozen=True)
class _Kernel:
    """All that resizing a row of one length to another needs."""

    bands: tuple[_Band, ...]
    taps: npt.NDArray[np.intp]
    """Pixels of the result x taps: which pixel of the source; its weight may be 0."""
    weights: npt.NDArray[np.int64]
    """Of the same shape, in units of 2**-22."""
    error: float
    """More than the sums in float32 can be off, in levels."""
    step: int
    """Rows to take at a time."""

    def exact(
        self, plane: Pixels, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
    ) -> Pixels:
        """Give the result at these rows and columns, computed in integers."""
        values = plane[rows[:, None], self.taps[columns]]
        sums = (values * self.weights[columns]).sum(1) + 2 ** (_BITS - 1)
        return np.asarray((sums >> _BITS).clip(0, 255), np.uint8)


@lru_cache(128)
def _kernel(old_size: int, size: int) -> _Kernel:
    scale = old_size / size
    widening = max(scale, 1.0)
    support = 2 * widening
    centres = (np.arange(size) + 0.5) * scale
    first = np.maximum((centres - support + 0.5).astype(np.intp), 0)
    stop = np.minimum((centres + support + 0.5).astype(np.intp), old_size)
    taps = first[:, None] + np.arange(2 * ceil(support) + 1)
    real = _cubic((taps - centres[:, None] + 0.5) * (1 / widening))
    real[taps >= stop[:, None]] = 0
    # Added up in order, as Pillow does: `sum` would round otherwise.
    real /= real.cumsum(1)[:, -1:]
    weights = np.trunc(real * 2**_BITS + np.copysign(0.5, real)).astype(np.int64)
    taps = np.minimum(taps, old_size - 1)

    bands = []
    for out in range(0, size, _BAND):
        rows = slice(out, min(out + _BAND, size))
        start = int(first[out])
        dense = np.zeros((int(stop[rows].max()) - start, rows.stop - out), np.float32)
        columns = np.broadcast_to(np.arange(rows.stop - out)[:, None], taps[rows].shape)
        used = weights[rows] != 0
        # At most 22 bits, so that float32 holds them as they are.
        dense[taps[rows][used] - start, columns[used]] = weights[rows][used] / 2.0**_BITS
        bands.append(_Band(out, start, dense))
    longest = max(len(band.weights) for band in bands)
    # n products of 24 bits, whose sizes add up to less than 512 (Higham 2002, section 3.1).
    error = (taps.shape[1] + 4) * 512 * 2.0**-24
    step = max(1, min(_MAX_PRODUCTS // (_BAND * longest), _MAX_SUMS // size))
    return _Kernel(tuple(bands), taps, weights, error, step)


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a = -0.5
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))  # noqa: PLR2004 - the kernel's pieces
